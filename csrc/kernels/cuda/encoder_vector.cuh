// A linear layer of one row, by one block of threads                                               (encoder_fusion.cuh)
#pragma once

#include "kernels/cuda/encoder_linear.cuh"

namespace lsif::cuda {

// A warp's share of a panel's kLinearPanel outputs: inputs from 8 slice on, 8 after 8 * slices. A thread has every
// eighth input of them and 4 outputs, which its warp then adds up; lanes 0 .. 3 get the sums.
__device__ inline float4 multiply_slice(const LinearParams& params, const float* x, int panel, int slice, int slices) {
  constexpr int kInputs = 8;
  constexpr int kPieces = static_cast<int>(kLinearPanel) / 4;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int in_dim = static_cast<int>(params.in_dim);
  const auto* weights =
      reinterpret_cast<const float4*>(params.packed) + static_cast<int64_t>(panel) * in_dim * kPieces + lane % kPieces;
  assume_global(weights);
  float z[4] = {};
#pragma unroll 8
  for (int i = slice * kInputs + lane / kPieces; i < in_dim; i += slices * kInputs) {
    const float4 w = weights[i * kPieces];
    const float in = x[i];
    z[0] = fmaf(in, w.x, z[0]);
    z[1] = fmaf(in, w.y, z[1]);
    z[2] = fmaf(in, w.z, z[2]);
    z[3] = fmaf(in, w.w, z[3]);
  }
  for (int offset = kPieces; offset < kWarp; offset *= 2) {
    for (int c = 0; c < 4; ++c) z[c] += __shfl_xor_sync(0xffffffffu, z[c], offset);
  }
  return {z[0], z[1], z[2], z[3]};
}

// y = activation(W x + bias), by all threads of a block: where a tile of rows would have but one, its weights are read
// by all warps at once instead of piece after piece. The order of the sums follows from the layer's shape; it is not
// block_linear's. x and y in shared or global memory; x may have been written just before; when this returns, every
// thread may read y.
__device__ __attribute__((noinline)) inline void block_vector_linear(LinearParams params, const float* x, float* y) {
  constexpr int kPanel = static_cast<int>(kLinearPanel);
  static_assert(kEncoderWarps * kPanel <= kStages * kStageFloats);
  float* const sums = weight_stages();  // [kEncoderWarps, kPanel]
  const int num_panels = static_cast<int>(divide_up(params.out_dim, kPanel));
  const int panels = min(num_panels, kEncoderWarps);  // at a time
  const int slices = kEncoderWarps / panels;
  assume_global(params.bias);
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarp;
  const int lane = thread % kWarp;
  __syncthreads();
#pragma unroll 1
  for (int first = 0; first < num_panels; first += panels) {
    const int panel = first + warp % panels;
    const bool is_used = warp < panels * slices && panel < num_panels;
    if (is_used) {
      const float4 z = multiply_slice(params, x, panel, warp / panels, slices);
      if (lane < kPanel / 4) reinterpret_cast<float4*>(sums + warp * kPanel)[lane] = z;
    }
    __syncthreads();
    const int output = first * kPanel + thread;
    if (thread < panels * kPanel && output < params.out_dim) {
      float z = params.bias == nullptr ? 0.0f : params.bias[output];
#pragma unroll 4
      for (int s = 0; s < slices; ++s) z += sums[s * panels * kPanel + thread];
      y[output] = activate(z, params.activation);
    }
    __syncthreads();
  }
}

}  // namespace lsif::cuda
