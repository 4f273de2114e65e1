#include "kernels/cuda/launch.h"
#include "kernels/cuda/layer_norm.cuh"

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
