// Interest pooling by one block of threads                                                            (encode_users.cu,
// user_states.cu)
#pragma once

#include "kernels/cuda/encoder_linear.cuh"
#include "kernels/interest_pooling.h"

namespace lsif::cuda {

inline constexpr int kPoolingRows = static_cast<int>(kPoolingChunk);

// Times of one history; null: all unknown.
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

// By one warp: replaces the logits of a chunk's `count` events by their weights, for one interest.
__device__ inline void weigh_chunk(const PoolingBuffers& buffers, int interest, int count) {
  constexpr float kLowest = -__builtin_inff();
  constexpr int kEach = kPoolingRows / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const float before = buffers.maximum[interest];
  float logits[kEach];
  float top = before;
  for (int i = 0; i < kEach; ++i) {
    logits[i] = lane + i * kWarp < count ? buffers.logits.row(lane + i * kWarp)[interest] : kLowest;
    top = fmaxf(top, logits[i]);
  }
  top = warp_reduce(top, Max());
  // If all logits so far are -inf: any finite reference gives weights 0, while -inf would give NaN.
  const float reference = top == kLowest ? 0.0f : top;
  float sum = 0.0f;
  for (int i = 0; i < kEach; ++i) {
    const float weight = expf(logits[i] - reference);
    if (lane + i * kWarp < count) buffers.logits.row(lane + i * kWarp)[interest] = weight;
    sum += weight;
  }
  sum = warp_reduce(sum, Sum());
  __syncwarp();  // all threads have read the old maximum
  if (lane != 0) return;
  buffers.shrink[interest] = expf(before - reference);
  buffers.total[interest] = buffers.total[interest] * buffers.shrink[interest] + sum;
  buffers.maximum[interest] = top;
}

// Adds a chunk's `count` events to a thread's share of the sums.
__device__ inline void add_chunk(const PoolingBuffers& buffers, const RowsView& x, int count, int num_interests,
                                 int dim, const RowsView& y) {
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < num_interests * dim; i += kEncoderThreads) {
    const int a = i / dim;
    const int c = i - a * dim;
    const float* weights = buffers.logits.data + a;
    const float* values = x.data + c;
    float sum = y.row(a)[c] * buffers.shrink[a];
#pragma unroll 8
    for (int j = 0; j < count; ++j) sum = fmaf(weights[j * buffers.logits.stride], values[j * x.stride], sum);
    y.row(a)[c] = sum;
  }
}

// Implements the contract for `count` events, by all threads of a block. rows(begin, n): the vectors of n events from
// event `begin` on, which may have been written just before. y: num_interests rows; other threads may read them after a
// barrier.
template <typename Rows>
__device__ __attribute__((noinline)) void block_pooling(InterestPoolingParams params, int64_t count, Rows rows,
                                                        PoolingTimes times, PoolingBuffers buffers, RowsView y) {
  const int dim = static_cast<int>(params.hidden.in_dim);
  const int num_interests = static_cast<int>(params.logits.out_dim);
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll 1
  for (int a = thread; a < num_interests; a += kEncoderThreads) {
    buffers.maximum[a] = -__builtin_inff();
    buffers.total[a] = 0.0f;
  }
#pragma unroll 1
  for (int i = thread; i < num_interests * dim; i += kEncoderThreads) y.row(i / dim)[i % dim] = 0.0f;
  __syncthreads();
#pragma unroll 1
  for (int64_t begin = 0; begin < count; begin += kPoolingRows) {
    const int n = static_cast<int>(count - begin < kPoolingRows ? count - begin : kPoolingRows);
    const RowsView x = rows(begin, n);
    block_linear(params.hidden, x, n, {nullptr, 0, buffers.hidden.data, buffers.hidden.stride});
    block_linear(params.logits, buffers.hidden, n, {nullptr, 0, buffers.logits.data, buffers.logits.stride});
    if (params.decay != nullptr && times.times != nullptr) {
#pragma unroll 1
      for (int i = thread; i < n * num_interests; i += kEncoderThreads) {
        float& logit = buffers.logits.row(i / num_interests)[i % num_interests];
        logit = aged(logit, params.decay, i % num_interests, times.times[begin + i / num_interests], times.newest);
      }
      __syncthreads();
    }
#pragma unroll 1
    for (int a = thread / kWarp; a < num_interests; a += kEncoderWarps) weigh_chunk(buffers, a, n);
    __syncthreads();
    add_chunk(buffers, x, n, num_interests, dim, y);
    __syncthreads();  // the next chunk overwrites the rows and their weights
  }
#pragma unroll 1
  for (int i = thread; i < num_interests * dim; i += kEncoderThreads) {
    const float total = buffers.total[i / dim];
    if (total != 0.0f) y.row(i / dim)[i % dim] /= total;
  }
}

}  // namespace lsif::cuda
