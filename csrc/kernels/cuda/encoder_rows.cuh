// Rows of activations by one block of threads: embedded and normalised                                (encode_users.cu,
// user_states.cu)
//
// Functions that a kernel calls in several places are not inlined, and loops whose count is not known not unrolled: a
// block of threads runs most of its code once or a few times, and waits for instructions it has not got yet.
#pragma once

#include "kernels/cuda/encode_users.h"
#include "kernels/cuda/encoder_linear.cuh"
#include "kernels/layer_norm.h"

namespace lsif::cuda {

// Items and actions (or null: all 0) of events, one after the other.
struct EventIds {
  const int64_t* items;
  const int64_t* actions;

  __device__ int64_t item(int row) const {
    assume_global(items);
    return items[row];
  }
  __device__ int64_t action(int row) const { return actions == nullptr ? 0 : actions[row]; }
};

__device__ inline float sum_of(float a, float b) { return a + b; }
__device__ inline float4 sum_of(const float4& a, const float4& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

// Pieces of rows: float4 where all of them begin at 16 bytes, else float. A thread has kAtOnce of them on their way, as
// each has to wait for its id and then for its row.
template <typename Piece, typename Ids>
__device__ __attribute__((noinline)) void embed_pieces(EmbeddingParams params, Ids ids, int count, RowsView x) {
  constexpr int kAtOnce = 4;
  const int width = static_cast<int>(params.dim * static_cast<int64_t>(sizeof(float)) / sizeof(Piece));
  const int total = count * width;
  const auto* items = reinterpret_cast<const Piece*>(params.items);
  const auto* actions = reinterpret_cast<const Piece*>(params.actions);
  assume_global(items);
  assume_global(actions);
#pragma unroll 1
  for (int first = static_cast<int>(threadIdx.x); first < total; first += kAtOnce * kEncoderThreads) {
    int rows[kAtOnce];
    int columns[kAtOnce];
    Piece pieces[kAtOnce];
    int64_t places[kAtOnce];
    for (int i = 0; i < kAtOnce; ++i) {
      const int place = min(first + i * kEncoderThreads, total - 1);
      rows[i] = place / width;
      columns[i] = place - rows[i] * width;
    }
    for (int i = 0; i < kAtOnce; ++i) places[i] = ids.item(rows[i]) * width + columns[i];
    for (int i = 0; i < kAtOnce; ++i) pieces[i] = items[places[i]];
    if (actions != nullptr) {
      for (int i = 0; i < kAtOnce; ++i) places[i] = ids.action(rows[i]) * width + columns[i];
      for (int i = 0; i < kAtOnce; ++i) pieces[i] = sum_of(pieces[i], actions[places[i]]);
    }
    for (int i = 0; i < kAtOnce; ++i) {
      if (first + i * kEncoderThreads < total) reinterpret_cast<Piece*>(x.row(rows[i]))[columns[i]] = pieces[i];
    }
  }
}

// x_r = the embedding of ids.item(r) and ids.action(r), for `count` rows. A barrier is the caller's, before and behind.
template <typename Ids>
__device__ void embed(const EmbeddingParams& params, const Ids& ids, int count, const RowsView& x) {
  const auto addresses = reinterpret_cast<uintptr_t>(params.items) | reinterpret_cast<uintptr_t>(params.actions);
  if (params.dim % 4 == 0 && addresses % sizeof(float4) == 0) {
    embed_pieces<float4>(params, ids, count, x);
  } else {
    embed_pieces<float>(params, ids, count, x);
  }
}

// y_r = norm(x_r) * gates_r for rows first .. count - 1, of at most kMostEncoderDim columns; gates may be null, y be x.
// A warp has some rows together, so that the sums of one hide the latency of another's; a row's bits do not depend on
// which. A barrier is the caller's, before and behind.
__device__ __attribute__((noinline)) inline void norm_rows(LayerNormParams params, RowsView x, int first, int count,
                                                           const float* gates, int gates_stride, RowsView y) {
  assume_global(params.weight);
  assume_global(params.bias);
  constexpr int kAtOnce = 4;
  constexpr int kColumns = static_cast<int>(kMostEncoderDim) / kWarp;  // of a thread
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int dim = static_cast<int>(params.dim);
  const float share = 1.0f / static_cast<float>(dim);
  // Every load is made, of the last column where there are no more: a branch would wait for each.
  int columns[kColumns];
  float weight[kColumns];
  float bias[kColumns];
  for (int k = 0; k < kColumns; ++k) {
    columns[k] = min(lane + k * kWarp, dim - 1);
    weight[k] = params.weight[columns[k]];
    bias[k] = params.bias[columns[k]];
  }
#pragma unroll 1
  for (int row = first + static_cast<int>(threadIdx.x) / kWarp; row < count; row += kAtOnce * kEncoderWarps) {
    float z[kAtOnce][kColumns];
    float gate[kAtOnce][kColumns];
    float sums[kAtOnce];
    float squares[kAtOnce];
    for (int r = 0; r < kAtOnce; ++r) {
      const float* in = x.row(row + r * kEncoderWarps < count ? row + r * kEncoderWarps : row);
      for (int k = 0; k < kColumns; ++k) z[r][k] = in[columns[k]];
    }
    if (gates != nullptr) {
      for (int r = 0; r < kAtOnce; ++r) {
        const float* in = gates + min(row + r * kEncoderWarps, count - 1) * gates_stride;
        for (int k = 0; k < kColumns; ++k) gate[r][k] = in[columns[k]];
      }
    } else {
      for (int r = 0; r < kAtOnce; ++r) {
        for (int k = 0; k < kColumns; ++k) gate[r][k] = 1.0f;
      }
    }
    for (int r = 0; r < kAtOnce; ++r) {
      sums[r] = 0.0f;
      for (int k = 0; k < kColumns; ++k) sums[r] += lane + k * kWarp < dim ? z[r][k] : 0.0f;
    }
    warp_reduce(sums, Sum());
    for (int r = 0; r < kAtOnce; ++r) {
      squares[r] = 0.0f;
      for (int k = 0; k < kColumns; ++k) {
        z[r][k] = lane + k * kWarp < dim ? z[r][k] - sums[r] * share : 0.0f;
        squares[r] = fmaf(z[r][k], z[r][k], squares[r]);
      }
    }
    warp_reduce(squares, Sum());
    float own = squares[0];  // a thread has one row's, for roots and divisions would come one after the other
    for (int r = 1; r < kAtOnce; ++r) own = lane == r ? squares[r] : own;
    own = 1.0f / sqrtf(own * share + params.eps);
    for (int r = 0; r < kAtOnce; ++r) {
      const float scale = __shfl_sync(0xffffffffu, own, r);
      float* out = y.row(row + r * kEncoderWarps);
      for (int k = 0; k < kColumns; ++k) {
        const float normed = fmaf(z[r][k] * scale, weight[k], bias[k]) * gate[r][k];
        if (row + r * kEncoderWarps < count && lane + k * kWarp < dim) out[columns[k]] = normed;
      }
    }
  }
}

}  // namespace lsif::cuda
