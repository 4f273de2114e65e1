#include "kernels/cuda/linear_bf16.h"
#include "kernels/cuda/mma.cuh"

namespace lsif::cuda {
namespace {

constexpr int kPanel = static_cast<int>(kLinearPanel);
constexpr int kTileRows = 16;
constexpr int kTilePanels = 4;
constexpr int kTileColumns = kTilePanels * kPanel;

// A warp's tile: 16 rows by 64 outputs; g and t as in mma.cuh.
struct Tile {
  const LinearParams& params;
  const LinearRows& rows;
  int64_t first_row;
  int64_t first_column;
  int g;
  int t;
  MmaFloatC z[2 * kTilePanels];

  __device__ int64_t column(int n) const { return first_column + 8 * n; }
  __device__ bool has(int n) const { return column(n) < params.out_dim; }

  __device__ void start() {
    for (int n = 0; n < 2 * kTilePanels; ++n) {
      for (int i = 0; i < 4; ++i) {
        const int64_t c = column(n) + 2 * t + i % 2;
        z[n].regs[i] = params.bias == nullptr || c >= params.out_dim ? 0.0f : params.bias[c];
      }
    }
  }

  // Adds inputs 16 k .. 16 k + 15, which are 0 past in_dim and past the last row.
  __device__ void add(int64_t k) {
    MmaBf16A x;
    for (int i = 0; i < 4; ++i) {
      const int64_t row = first_row + g + 8 * (i % 2);
      const int64_t c = 16 * k + 2 * t + 8 * (i / 2);
      const float* in = rows.x + row * rows.x_stride + c;
      const bool is_there = row < rows.count;
      x.regs[i] =
          bf16_pair(is_there && c < params.in_dim ? in[0] : 0.0f, is_there && c + 1 < params.in_dim ? in[1] : 0.0f);
    }
    const int64_t num_pairs = (params.in_dim + 1) / 2;
    const auto* pairs = reinterpret_cast<const uint32_t*>(params.packed_bf16);
    for (int n = 0; n < 2 * kTilePanels; ++n) {
      if (!has(n)) break;
      const uint32_t* panel = pairs + column(n) / kPanel * num_pairs * kPanel + column(n) % kPanel + g;
      MmaBf16B w;
      for (int i = 0; i < 2; ++i) {
        const int64_t pair = 8 * k + t + 4 * i;
        w.regs[i] = pair < num_pairs ? panel[pair * kPanel] : 0u;
      }
      multiply_add(z[n], x, w);
    }
  }

  __device__ void store() const {
    for (int n = 0; n < 2 * kTilePanels; ++n) {
      for (int i = 0; i < 4; ++i) {
        const int64_t row = first_row + g + 8 * (i / 2);
        const int64_t c = column(n) + 2 * t + i % 2;
        if (row >= rows.count || c >= params.out_dim) continue;
        float y = activate(z[n].regs[i], params.activation);
        if (rows.residual != nullptr) y += rows.residual[row * rows.residual_stride + c];
        rows.y[row * rows.y_stride + c] = y;
      }
    }
  }
};

__global__ void __launch_bounds__(kThreads)
    linear_bf16_kernel(const __grid_constant__ LinearParams params, const __grid_constant__ LinearRows rows,
                       int64_t num_columns) {
  const int64_t task = global_thread() / kWarp;
  const int64_t first_row = task / num_columns * kTileRows;
  if (first_row >= rows.count) return;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  Tile tile = {params, rows, first_row, task % num_columns * kTileColumns, lane / 4, lane % 4, {}};
  tile.start();
  for (int64_t k = 0; 16 * k < params.in_dim; ++k) tile.add(k);
  tile.store();
}

// A thread per element of `packed`.
__global__ void pack_kernel(const float* weight, int64_t in_dim, int64_t out_dim, uint16_t* packed, int64_t size) {
  const int64_t place = global_thread();
  if (place >= size) return;
  const int64_t num_pairs = (in_dim + 1) / 2;
  const int64_t i = place / 2 / kPanel % num_pairs * 2 + place % 2;
  const int64_t column = place / 2 / kPanel / num_pairs * kPanel + place / 2 % kPanel;
  const float w = i < in_dim && column < out_dim ? weight[column * in_dim + i] : 0.0f;
  packed[place] = static_cast<uint16_t>(__float_as_uint(to_bf16(w)) >> 16);
}

}  // namespace

cudaError_t pack_linear_bf16(const float* weight, int64_t in_dim, int64_t out_dim, uint16_t* packed,
                             cudaStream_t stream) {
  const int64_t size = packed_bf16_size(in_dim, out_dim);
  return launch(pack_kernel, divide_up(size, kThreads), kThreads, stream, weight, in_dim, out_dim, packed, size);
}

cudaError_t linear_bf16(const LinearParams& params, const LinearRows& rows, cudaStream_t stream) {
  const int64_t num_columns = divide_up(params.out_dim, kTileColumns);
  const int64_t num_tiles = divide_up(rows.count, kTileRows) * num_columns;
  return launch(linear_bf16_kernel, divide_up(num_tiles, kThreads / kWarp), kThreads, stream, params, rows,
                num_columns);
}

}  // namespace lsif::cuda
