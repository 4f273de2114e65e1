// Embedding and normalising rows of activations, by one block of threads                              (encode_users.cu,
// user_states.cu)
//
// Functions that a kernel calls in several places are not inlined, and loops of unknown length are not unrolled: a
// block runs most of its code only once or a few times, so instruction cache misses matter.
#pragma once

#include "kernels/cuda/encode_users.h"
#include "kernels/cuda/encoder_linear.cuh"
#include "kernels/layer_norm.h"

namespace lsif::cuda {

// Items and actions (or null: all 0) of consecutive events.
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

// Copies rows in pieces: float4 if all of them are 16-byte aligned, else float. A thread has kAtOnce of them in flight,
// as each load depends on that of the id.
template <typename Piece, typename Ids>
__device__ __attribute__((noinline)) void embed_pieces(EmbeddingParams params, Ids ids, int count, RowsView x) {
  constexpr int kAtOnce = 4;
  const int width = static_cast<int>(params.dim * static_cast<int64_t>(sizeof(float)) / sizeof(Piece));
  const int total = count * width;
  const auto* items = reinterpret_cast<const Piece*>(params.items);
  const auto* actions = reinterpret_cast<const Piece*>(params.actions);
  assume_global(items);
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
      assume_global(actions);
      for (int i = 0; i < kAtOnce; ++i) places[i] = ids.action(rows[i]) * width + columns[i];
      for (int i = 0; i < kAtOnce; ++i) pieces[i] = sum_of(pieces[i], actions[places[i]]);
    }
    for (int i = 0; i < kAtOnce; ++i) {
      if (first + i * kEncoderThreads < total) reinterpret_cast<Piece*>(x.row(rows[i]))[columns[i]] = pieces[i];
    }
  }
}

// x_r = the embedding of ids.item(r) and ids.action(r), for `count` rows. The caller must place barriers before and
// after.
template <typename Ids>
__device__ void embed(const EmbeddingParams& params, const Ids& ids, int count, const RowsView& x) {
  const auto addresses = reinterpret_cast<uintptr_t>(params.items) | reinterpret_cast<uintptr_t>(params.actions);
  if (params.dim % 4 == 0 && addresses % sizeof(float4) == 0) {
    embed_pieces<float4>(params, ids, count, x);
  } else {
    embed_pieces<float>(params, ids, count, x);
  }
}

// Four adjacent elements of a row, zeros past its end: reads nothing that another thread may be writing. kWhole: rows
// are 16-byte aligned and a multiple of 16 bytes long.
template <bool kWhole>
__device__ void load_four(const float* row, int column, int dim, float (&x)[4]) {
  if constexpr (kWhole) {
    const float4 four = column < dim ? *reinterpret_cast<const float4*>(row + column) : float4{};
    x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
  } else {
    for (int c = 0; c < 4; ++c) x[c] = column + c < dim ? row[column + c] : 0.0f;
  }
}

template <bool kWhole>
__device__ void store_four(float* row, int column, int dim, const float (&x)[4]) {
  if constexpr (kWhole) {
    if (column < dim) *reinterpret_cast<float4*>(row + column) = {x[0], x[1], x[2], x[3]};
  } else {
    for (int c = 0; c < 4; ++c) {
      if (column + c < dim) row[column + c] = x[c];
    }
  }
}

// Sums over a warp of four values: threads 8 i .. 8 i + 7 get the sum of x[i]. This takes fewer exchanges than four
// sums that every thread gets.
__device__ inline float warp_sum_of_each(const float (&x)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const auto add = [](float kept, float sent, int offset) { return kept + __shfl_xor_sync(0xffffffffu, sent, offset); };
  const float x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3];
  const bool is_upper = lane / 16 == 1;
  const float even = add(is_upper ? x2 : x0, is_upper ? x0 : x2, 16);
  const float odd = add(is_upper ? x3 : x1, is_upper ? x1 : x3, 16);
  const bool is_odd = lane / 8 % 2 == 1;
  float sum = add(is_odd ? odd : even, is_odd ? even : odd, 8);
  for (int offset = 4; offset > 0; offset /= 2) sum = add(sum, sum, offset);
  return sum;
}

// One warp's part of norm_rows(): every kEncoderWarps'th row from `row` on. A thread has four columns of kAtOnce rows,
// whose sums hide each other's latency; a row's bits do not depend on the others.
template <bool kWhole>
__device__ void norm_own_rows(const LayerNormParams& params, const RowsView& x, int row, int count, const float* gates,
                              int gates_stride, const RowsView& y) {
  constexpr int kAtOnce = 4;
  static_assert(kMostEncoderDim <= 4 * kWarp);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int column = 4 * lane;
  const int dim = static_cast<int>(params.dim);
  const float share = 1.0f / static_cast<float>(dim);
  float weight[4];
  float bias[4];
  load_four<false>(params.weight, column, dim, weight);
  load_four<false>(params.bias, column, dim, bias);
#pragma unroll 1
  for (; row < count; row += kAtOnce * kEncoderWarps) {
    float z[kAtOnce][4];
    float gate[kAtOnce][4];
    float sums[kAtOnce];  // of elements, then of squared deviations
    for (int r = 0; r < kAtOnce; ++r) {
      load_four<kWhole>(x.row(row + r * kEncoderWarps < count ? row + r * kEncoderWarps : row), column, dim, z[r]);
    }
    for (int r = 0; r < kAtOnce; ++r) {
      for (int c = 0; c < 4; ++c) gate[r][c] = 1.0f;
    }
    if (gates != nullptr) {
      for (int r = 0; r < kAtOnce; ++r) {
        const int read = min(row + r * kEncoderWarps, count - 1);
        load_four<kWhole>(gates + read * gates_stride, column, dim, gate[r]);
      }
    }
    for (int r = 0; r < kAtOnce; ++r) {
      sums[r] = 0.0f;
      for (int c = 0; c < 4; ++c) sums[r] += column + c < dim ? z[r][c] : 0.0f;
    }
    const float own_mean = warp_sum_of_each(sums) * share;
    for (int r = 0; r < kAtOnce; ++r) {
      const float mean = __shfl_sync(0xffffffffu, own_mean, 8 * r);
      sums[r] = 0.0f;
      for (int c = 0; c < 4; ++c) {
        z[r][c] = column + c < dim ? z[r][c] - mean : 0.0f;
        sums[r] = fmaf(z[r][c], z[r][c], sums[r]);
      }
    }
    const float own_scale = 1.0f / sqrtf(warp_sum_of_each(sums) * share + params.eps);
    for (int r = 0; r < kAtOnce; ++r) {
      const float scale = __shfl_sync(0xffffffffu, own_scale, 8 * r);
      for (int c = 0; c < 4; ++c) z[r][c] = fmaf(z[r][c] * scale, weight[c], bias[c]) * gate[r][c];
      if (row + r * kEncoderWarps < count) store_four<kWhole>(y.row(row + r * kEncoderWarps), column, dim, z[r]);
    }
  }
}

// y_r = norm(x_r) * gates_r for rows first .. count - 1 of at most kMostEncoderDim columns. gates may be null, and is
// 16-byte aligned if columns are a multiple of 4; y may be x. The caller must place barriers before and after.
__device__ __attribute__((noinline)) inline void norm_rows(LayerNormParams params, RowsView x, int first, int count,
                                                           const float* gates, int gates_stride, RowsView y) {
  assume_global(params.weight);
  assume_global(params.bias);
  const int row = first + static_cast<int>(threadIdx.x) / kWarp;
  if (params.dim % 4 == 0) {
    norm_own_rows<true>(params, x, row, count, gates, gates_stride, y);
  } else {
    norm_own_rows<false>(params, x, row, count, gates, gates_stride, y);
  }
}

}  // namespace lsif::cuda
