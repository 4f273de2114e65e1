// Interest pooling by one block of threads                                                            (encode_users.cu,
// user_states.cu)
#pragma once

#include "kernels/cuda/encoder_linear.cuh"
#include "kernels/interest_pooling.h"

namespace lsif::cuda {

inline constexpr int kPoolingRows = static_cast<int>(kPoolingChunk);

// Of one history; null: all unknown.
struct PoolingTimes {
  const int64_t* times;
  int64_t newest;
};

// Memory of block_pooling.
struct PoolingBuffers {
  RowsView hidden;  // [kPoolingRows, pooling_dim]
  RowsView logits;  // [kPoolingRows, num_interests]
  float* maximum;   // [num_interests]; likewise
  float* total;     // the denominators
  float* shrink;
};

// One warp: the weights of a chunk's `count` events for one interest, in place of their logits.
__device__ inline void weigh_chunk(const PoolingBuffers& buffers, int interest, int count) {
  constexpr float kLowest = -__builtin_inff();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float top = kLowest;
  for (int j = lane; j < count; j += kWarp) top = fmaxf(top, buffers.logits.row(j)[interest]);
  const float before = buffers.maximum[interest];
  top = fmaxf(before, warp_reduce(top, Max()));
  // Nothing but -inf so far: any finite number in place of the maximum makes all weights 0, -inf itself NaNs.
  const float reference = top == kLowest ? 0.0f : top;
  float sum = 0.0f;
  for (int j = lane; j < count; j += kWarp) {
    float& logit = buffers.logits.row(j)[interest];
    logit = expf(logit - reference);
    sum += logit;
  }
  sum = warp_reduce(sum, Sum());
  if (lane != 0) return;
  buffers.shrink[interest] = expf(before - reference);
  buffers.total[interest] = buffers.total[interest] * buffers.shrink[interest] + sum;
  buffers.maximum[interest] = top;
}

// The contract for `count` events, by all threads of a block. rows(begin, n): the vectors of n events from event
// `begin` on, which may just have been written. y: num_interests rows, which another thread may read behind a barrier.
template <typename Rows>
__device__ void block_pooling(const InterestPoolingParams& params, int64_t count, Rows rows, const PoolingTimes& times,
                              const PoolingBuffers& buffers, const RowsView& y) {
  const int dim = static_cast<int>(params.hidden.in_dim);
  const int num_interests = static_cast<int>(params.logits.out_dim);
  const int thread = static_cast<int>(threadIdx.x);
  for (int a = thread; a < num_interests; a += kEncoderThreads) {
    buffers.maximum[a] = -__builtin_inff();
    buffers.total[a] = 0.0f;
  }
  for (int i = thread; i < num_interests * dim; i += kEncoderThreads) y.row(i / dim)[i % dim] = 0.0f;
  __syncthreads();
  for (int64_t begin = 0; begin < count; begin += kPoolingRows) {
    const int n = static_cast<int>(count - begin < kPoolingRows ? count - begin : kPoolingRows);
    const RowsView x = rows(begin, n);
    block_linear(params.hidden, x, n, {nullptr, 0, buffers.hidden.data, buffers.hidden.stride});
    block_linear(params.logits, buffers.hidden, n, {nullptr, 0, buffers.logits.data, buffers.logits.stride});
    if (params.decay != nullptr && times.times != nullptr) {
      for (int i = thread; i < n * num_interests; i += kEncoderThreads) {
        float& logit = buffers.logits.row(i / num_interests)[i % num_interests];
        logit = aged(logit, params.decay, i % num_interests, times.times[begin + i / num_interests], times.newest);
      }
      __syncthreads();
    }
    for (int a = thread / kWarp; a < num_interests; a += kEncoderWarps) weigh_chunk(buffers, a, n);
    __syncthreads();
    for (int i = thread; i < num_interests * dim; i += kEncoderThreads) {
      const int a = i / dim;
      float sum = y.row(a)[i % dim] * buffers.shrink[a];
      for (int j = 0; j < n; ++j) sum = fmaf(buffers.logits.row(j)[a], x.row(j)[i % dim], sum);
      y.row(a)[i % dim] = sum;
    }
    __syncthreads();  // the next chunk overwrites the rows and their weights
  }
  for (int i = thread; i < num_interests * dim; i += kEncoderThreads) {
    const float total = buffers.total[i / dim];
    if (total != 0.0f) y.row(i / dim)[i % dim] /= total;
  }
}

}  // namespace lsif::cuda
