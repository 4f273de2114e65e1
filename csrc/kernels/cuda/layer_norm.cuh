// One row's layer norm, by one warp                                                          (kernels/layer_norm.h)
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/layer_norm.h"

namespace lsif::cuda {

// gate may be null. A thread writes only elements it has read itself, so y may be x.
__device__ inline void norm_row(const LayerNormParams& params, const float* x, const float* gate, float* y) {
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

}  // namespace lsif::cuda
