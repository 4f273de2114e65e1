// A linear layer of one row, by one block of threads                                               (encoder_fusion.cuh)
#pragma once

#include "kernels/cuda/encoder_linear.cuh"

namespace lsif::cuda {

// A warp's share of a panel's kLinearPanel outputs: blocks of kInputs inputs, beginning at kInputs * slice and kInputs
// * slices apart. A thread has one input of each block, kAtOnce of them at a time, and 4 outputs.
struct VectorSlice {
  static constexpr int kInputs = 8;
  static constexpr int kPieces = static_cast<int>(kLinearPanel) / 4;
  static constexpr int kAtOnce = 8;

  const float4* weights;
  int in_dim;
  int input;
  int step;  // between the kAtOnce inputs

  __device__ VectorSlice(const LinearParams& params, int panel, int slice, int slices) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    in_dim = static_cast<int>(params.in_dim);
    weights = reinterpret_cast<const float4*>(params.packed) + panel * in_dim * kPieces + lane % kPieces;
    input = slice * kInputs + lane / kPieces;
    step = slices * kInputs;
  }

  // Loads past the last input read that input's weights, which are later multiplied by 0.
  __device__ void load(float4 (&w)[kAtOnce]) const {
    assume_global(weights);
    for (int k = 0; k < kAtOnce; ++k) w[k] = weights[min(input + k * step, in_dim - 1) * kPieces];
  }

  // Returns the panel's outputs from 4 (lane % kPieces) on of W x, in every lane. w: already loaded.
  __device__ float4 multiply(const float* x, float4 (&w)[kAtOnce]) {
    float z[4] = {};
    for (bool is_first = true; input < in_dim; is_first = false) {
      if (!is_first) load(w);
      for (int k = 0; k < kAtOnce; ++k) {
        const int i = input + k * step;
        const float in = i < in_dim ? x[min(i, in_dim - 1)] : 0.0f;
        z[0] = fmaf(in, w[k].x, z[0]);
        z[1] = fmaf(in, w[k].y, z[1]);
        z[2] = fmaf(in, w[k].z, z[2]);
        z[3] = fmaf(in, w[k].w, z[3]);
      }
      input += kAtOnce * step;
    }
    for (int offset = kPieces; offset < kWarp; offset *= 2) {
      for (int c = 0; c < 4; ++c) z[c] += __shfl_xor_sync(0xffffffffu, z[c], offset);
    }
    return {z[0], z[1], z[2], z[3]};
  }
};

// y = activation(W x + bias), by all threads of a block, for a single row: all warps read weights at once, not piece
// after piece, and load the first weights before x must be ready. The order of the sums depends only on the layer's
// shape and differs from block_linear's. x and y are in shared or global memory. x may have been written just before;
// on return, every thread may read y.
__device__ __attribute__((noinline)) inline void block_vector_linear(LinearParams params, const float* x, float* y) {
  static_assert(kEncoderWarps * kPanel <= kLinearScratch);
  float* const sums = linear_scratch();  // [kEncoderWarps, kPanel]
  const int num_panels = static_cast<int>(divide_up(params.out_dim, kPanel));
  const int panels = min(num_panels, kEncoderWarps);  // processed at a time
  const int slices = kEncoderWarps / panels;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarp;
  const int lane = thread % kWarp;
#pragma unroll 1
  for (int first = 0; first < num_panels; first += panels) {
    const int panel = first + warp % panels;
    const bool is_used = warp < panels * slices && panel < num_panels;
    VectorSlice slice(params, is_used ? panel : 0, warp / panels, slices);
    float4 w[VectorSlice::kAtOnce];
    slice.load(w);
    __syncthreads();  // x is ready, and the previous sums are no longer read
    if (is_used) {
      const float4 z = slice.multiply(x, w);
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
  }
  __syncthreads();
}

}  // namespace lsif::cuda
