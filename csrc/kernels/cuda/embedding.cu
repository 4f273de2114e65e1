#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.h"

namespace lsif::cuda {
namespace {

// A thread per element of y.
__global__ void embedding_kernel(EmbeddingParams params, const int64_t* item, const int64_t* action, int64_t num_rows,
                                 float* y, int64_t y_stride) {
  const int64_t row = global_thread() / params.dim;
  const int64_t column = global_thread() % params.dim;
  if (row >= num_rows) return;
  const int64_t place = item[row] * params.dim + column;
  float value = params.items_bf16 == nullptr ? params.items[place]
                                             : __uint_as_float(static_cast<uint32_t>(params.items_bf16[place]) << 16);
  if (params.actions != nullptr) {
    value += params.actions[(action == nullptr ? 0 : action[row]) * params.dim + column];
  }
  y[row * y_stride + column] = value;
}

}  // namespace

cudaError_t embedding(const EmbeddingParams& params, const int64_t* item, const int64_t* action, int64_t num_rows,
                      float* y, int64_t y_stride, cudaStream_t stream) {
  return launch(embedding_kernel, divide_up(num_rows * params.dim, kThreads), kThreads, stream, params, item, action,
                num_rows, y, y_stride);
}

}  // namespace lsif::cuda
