// What the blocks of threads of encode_users.cu and user_states.cu are made of: rows of activations, memory for them,
// and linear layers by one block of threads.
#pragma once

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/linear.h"

namespace lsif::cuda {

#if !defined(LSIF_ENCODER_THREADS)
#define LSIF_ENCODER_THREADS 512
#endif
inline constexpr int kEncoderThreads = LSIF_ENCODER_THREADS;
inline constexpr int kEncoderWarps = kEncoderThreads / kWarp;

// Rows of activations lie an odd number of 16 bytes apart, so that eight threads that read 16 bytes of eight rows each
// meet no bank of shared memory twice.
constexpr int64_t padded_stride(int64_t columns) { return 4 * ((columns + 3) / 4 | 1); }

// Rows in shared or in global memory, 16-byte aligned, `stride` a multiple of 4.
struct RowsView {
  float* data;
  int stride;

  __device__ float* row(int r) const { return data + r * stride; }
};

// Hands out shared memory while there is enough, then the block's part of the workspace; multiples of 4 floats.
struct BlockArena {
  float* shared;
  int64_t shared_left;
  float* global;

  __device__ float* take(int64_t size) {
    size = (size + 3) / 4 * 4;
    if (size <= shared_left) {
      shared_left -= size;
      shared += size;
      return shared - size;
    }
    global += size;
    return global - size;
  }

  __device__ RowsView rows(int64_t count, int stride) { return {take(count * stride), stride}; }
};

// A tile of a linear layer: 16 or 64 rows and 4 panels of outputs, by pieces of kTileDepth inputs. The weights of the
// piece after the one that is multiplied are on their way to shared memory.
inline constexpr int kTilePanels = 4;
inline constexpr int kTileDepth = 64;
inline constexpr int kStageFloats = kTilePanels * kTileDepth * static_cast<int>(kLinearPanel);
inline constexpr int kStages = 2;

struct LinearOutput {
  const float* residual;  // or null
  int residual_stride;
  float* y;  // may be the residual
  int y_stride;
};

__device__ inline void load_weights(const LinearParams& params, int panel, int depth, float* stage) {
  constexpr int kPanel = static_cast<int>(kLinearPanel);
  const int in_dim = static_cast<int>(params.in_dim);
  const int num_panels = static_cast<int>(divide_up(params.out_dim, kPanel));
  const int count = min(kTileDepth, in_dim - depth) * kPanel / 4;  // pieces of 16 bytes, of a panel
  for (int piece = static_cast<int>(threadIdx.x); piece < kTilePanels * count; piece += kEncoderThreads) {
    const int p = piece / count;
    if (panel + p >= num_panels) break;
    const float* from = params.packed + (static_cast<int64_t>(panel + p) * in_dim + depth) * kPanel;
    copy_async(stage + p * kTileDepth * kPanel + piece % count * 4, from + piece % count * 4);
  }
}

// A thread's share of a tile: kRows rows, 8 apart, times 4 neighbouring outputs.
template <int kRows>
struct LinearTile {
  float z[kRows][4];

  __device__ void start(const LinearParams& params, int column) {
    for (int c = 0; c < 4; ++c) {
      const float bias = params.bias == nullptr || column + c >= params.out_dim ? 0.0f : params.bias[column + c];
      for (int r = 0; r < kRows; ++r) z[r][c] = bias;
    }
  }

  // The contract's chain: inputs in ascending order.
  __device__ void add(const float* const (&x)[kRows], const float* w, int depth) {
    constexpr int kPanel = static_cast<int>(kLinearPanel);
    int i = 0;
    for (; i + 4 <= depth; i += 4) {
      float4 weights[4];
      for (int k = 0; k < 4; ++k) weights[k] = *reinterpret_cast<const float4*>(w + (i + k) * kPanel);
      for (int r = 0; r < kRows; ++r) {
        const float4 in = *reinterpret_cast<const float4*>(x[r] + i);
        add_input(r, in.x, weights[0]);
        add_input(r, in.y, weights[1]);
        add_input(r, in.z, weights[2]);
        add_input(r, in.w, weights[3]);
      }
    }
    for (; i < depth; ++i) {
      const float4 weight = *reinterpret_cast<const float4*>(w + i * kPanel);
      for (int r = 0; r < kRows; ++r) add_input(r, x[r][i], weight);
    }
  }

  __device__ void add_input(int r, float x, const float4& w) {
    z[r][0] = fmaf(x, w.x, z[r][0]);
    z[r][1] = fmaf(x, w.y, z[r][1]);
    z[r][2] = fmaf(x, w.z, z[r][2]);
    z[r][3] = fmaf(x, w.w, z[r][3]);
  }

  __device__ void store(const LinearParams& params, int row, int count, int column, const LinearOutput& out) const {
    for (int r = 0; r < kRows; ++r) {
      if (row + 8 * r >= count) return;
      for (int c = 0; c < 4 && column + c < params.out_dim; ++c) {
        float y = activate(z[r][c], params.activation);
        if (out.residual != nullptr) y += out.residual[(row + 8 * r) * out.residual_stride + column + c];
        out.y[(row + 8 * r) * out.y_stride + column + c] = y;
      }
    }
  }
};

// Where all weights pass through: the first kStages * kStageFloats floats of the block's shared memory.
__device__ inline float* weight_stages() { return dynamic_shared(); }

// Not inlined, as a kernel calls it in a dozen places.
template <int kRows>
__device__ __attribute__((noinline)) void linear_tiles(LinearParams params, RowsView x, int count, LinearOutput out) {
  float* const stages = weight_stages();
  constexpr int kPanel = static_cast<int>(kLinearPanel);
  constexpr int kTileRows = kRows * 8 * kEncoderWarps / kTilePanels;
  const int in_dim = static_cast<int>(params.in_dim);
  const int num_depths = static_cast<int>(divide_up(in_dim, kTileDepth));
  const int num_columns = static_cast<int>(divide_up(params.out_dim, kTilePanels * kPanel));
  const int num_pieces = static_cast<int>(divide_up(count, kTileRows)) * num_columns * num_depths;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int panel_in_tile = warp % kTilePanels;
  const int row_in_tile = warp / kTilePanels * 8 * kRows + lane / 4;
  LinearTile<kRows> tile = {};
  load_weights(params, 0, 0, stages);
  for (int piece = 0; piece < num_pieces; ++piece) {
    copy_async_wait();
    __syncthreads();  // everyone's copies are there, and nobody reads the other stage any more
    if (piece + 1 < num_pieces) {
      const int next = piece + 1;
      load_weights(params, next / num_depths % num_columns * kTilePanels, next % num_depths * kTileDepth,
                   stages + next % kStages * kStageFloats);
    }
    const int depth = piece % num_depths * kTileDepth;
    const int column = (piece / num_depths % num_columns * kTilePanels + panel_in_tile) * kPanel + lane % 4 * 4;
    const int row = piece / num_depths / num_columns * kTileRows + row_in_tile;
    // By whole warps: the first row of a warp is that of its first lanes.
    if (row - lane / 4 >= count || column - lane % 4 * 4 >= params.out_dim) continue;
    if (depth == 0) tile.start(params, column);
    const float* rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = x.row(min(row + 8 * r, count - 1)) + depth;
    const float* weights = stages + piece % kStages * kStageFloats + panel_in_tile * kTileDepth * kPanel + lane % 4 * 4;
    tile.add(rows, weights, min(kTileDepth, in_dim - depth));
    if (depth + kTileDepth >= in_dim) tile.store(params, row, count, column, out);
  }
  __syncthreads();
}

// out.y[r] = out.residual[r] + activation(x[r] W^T + bias) for `count` rows, by all threads of a block: bit-equal to
// linear.cu's. x may have been written just before; when this returns, every thread may read y.
__device__ inline void block_linear(const LinearParams& params, const RowsView& x, int count, const LinearOutput& out) {
  if (count == 0) return;
  if (count <= 16) {
    linear_tiles<1>(params, x, count, out);
  } else {
    linear_tiles<32 / kEncoderWarps>(params, x, count, out);
  }
}

}  // namespace lsif::cuda
