#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_bf16.h"

namespace lsif::cuda {
namespace {

constexpr int kPanel = static_cast<int>(kLinearPanel);
constexpr int kBlockRows = kThreads / kPanel;

// z + x w, added term by term; w: one column's weights in a panel.
__device__ float add_products(const float* x, const float* w, int64_t in_dim, float z) {
  for (int64_t i = 0; i < in_dim; ++i) z = fmaf(x[i], w[i * kPanel], z);
  return z;
}

// A block computes kBlockRows rows of one panel; a thread computes one element of y, as the contract's chain of fused
// multiply-adds.
__global__ void linear_kernel(LinearParams params, LinearRows rows, int64_t num_panels) {
  const int64_t panel = blockIdx.x % num_panels;
  const int64_t row = blockIdx.x / num_panels * kBlockRows + threadIdx.x / kPanel;
  const int column_in_panel = static_cast<int>(threadIdx.x % kPanel);
  const int64_t column = panel * kPanel + column_in_panel;
  if (row >= rows.count || column >= params.out_dim) return;
  const float* x = rows.x + row * rows.x_stride;
  float z = params.bias == nullptr ? 0.0f : params.bias[column];
  z = add_products(x, params.packed + panel * params.in_dim * kPanel + column_in_panel, params.in_dim, z);
  z = activate(z, params.activation);
  if (rows.residual != nullptr) z += rows.residual[row * rows.residual_stride + column];
  rows.y[row * rows.y_stride + column] = z;
}

// A thread per element of `packed`.
__global__ void pack_linear_kernel(const float* weight, int64_t in_dim, int64_t out_dim, float* packed, int64_t size) {
  const int64_t place = global_thread();
  if (place >= size) return;
  const int64_t i = place / kPanel % in_dim;
  const int64_t column = place / kPanel / in_dim * kPanel + place % kPanel;
  packed[place] = column < out_dim ? weight[column * in_dim + i] : 0.0f;
}

}  // namespace

cudaError_t pack_linear(const float* weight, int64_t in_dim, int64_t out_dim, float* packed, cudaStream_t stream) {
  const int64_t size = packed_linear_size(in_dim, out_dim);
  return launch(pack_linear_kernel, divide_up(size, kThreads), kThreads, stream, weight, in_dim, out_dim, packed, size);
}

cudaError_t linear(const LinearParams& params, const float* x, int64_t x_stride, const float* residual,
                   int64_t residual_stride, float* y, int64_t y_stride, int64_t num_rows, cudaStream_t stream) {
  const LinearRows rows = {x, x_stride, residual, residual_stride, y, y_stride, num_rows};
  if (params.packed_bf16 != nullptr) return linear_bf16(params, rows, stream);
  const int64_t num_panels = divide_up(params.out_dim, kPanel);
  return launch(linear_kernel, divide_up(num_rows, kBlockRows) * num_panels, kThreads, stream, params, rows,
                num_panels);
}

}  // namespace lsif::cuda
