#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.h"

namespace lsif::cuda {
namespace {

struct Rows {
  const float* x;
  int64_t x_stride;
  const float* gate;  // or null
  int64_t gate_stride;
  float* y;
  int64_t y_stride;
  int64_t count;
};

// By one warp. gate may be null. A thread writes only elements that it has read itself, so y may be x.
__device__ void norm_row(const LayerNormParams& params, const float* x, const float* gate, float* y) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int size = static_cast<int>(params.dim);
  const auto dim = static_cast<float>(size);
  float sum = 0.0f;
  for (int c = lane; c < size; c += kWarp) sum += x[c];
  const float mean = warp_reduce(sum, Sum()) / dim;
  float squares = 0.0f;
  for (int c = lane; c < size; c += kWarp) squares = fmaf(x[c] - mean, x[c] - mean, squares);
  const float scale = 1.0f / sqrtf(warp_reduce(squares, Sum()) / dim + params.eps);
  for (int c = lane; c < size; c += kWarp) {
    const float z = fmaf((x[c] - mean) * scale, params.weight[c], params.bias[c]);
    y[c] = gate == nullptr ? z : z * gate[c];
  }
}

// A warp per row.
__global__ void layer_norm_kernel(LayerNormParams params, Rows rows) {
  const int64_t row = global_thread() / kWarp;
  if (row >= rows.count) return;
  norm_row(params, rows.x + row * rows.x_stride, rows.gate == nullptr ? nullptr : rows.gate + row * rows.gate_stride,
           rows.y + row * rows.y_stride);
}

}  // namespace

cudaError_t layer_norm(const LayerNormParams& params, const float* x, int64_t x_stride, const float* gate,
                       int64_t gate_stride, float* y, int64_t y_stride, int64_t num_rows, cudaStream_t stream) {
  const Rows rows = {x, x_stride, gate, gate_stride, y, y_stride, num_rows};
  return launch(layer_norm_kernel, divide_up(num_rows, kThreads / kWarp), kThreads, stream, params, rows);
}

}  // namespace lsif::cuda
