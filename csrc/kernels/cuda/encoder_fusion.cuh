// Interest fusion of one user by one block of threads                                                 (encode_users.cu,
// user_states.cu)
#pragma once

#include "kernels/cuda/encoder_vector.cuh"
#include "kernels/interest_fusion.h"

namespace lsif::cuda {

// Memory of block_fusion.
struct FusionBuffers {
  float* context;  // [num_interests * dim + kFusionContext], interests first; 16-byte aligned, like
  float* hidden;   // [fusion_dim]
  float* logits;   // [num_interests]
  float* weights;  // [num_interests]
};

// By one warp: 1 / |v_j|.
__device__ inline float inverse_norm(const float* v, int dim) {
  float squares = 0.0f;
#pragma unroll 4
  for (int c = static_cast<int>(threadIdx.x) % kWarp; c < dim; c += kWarp) squares = fmaf(v[c], v[c], squares);
  return 1.0f / sqrtf(warp_reduce(squares, Sum()) + kDirectionEps);
}

// By one warp.
__device__ inline float dispersion(const float* interests, const float* inverse_norms, int num_interests, int dim) {
  if (num_interests == 1) return 0.0f;
  float squares = 0.0f;  // of the sum of directions
#pragma unroll 1
  for (int c = static_cast<int>(threadIdx.x) % kWarp; c < dim; c += kWarp) {
    float direction = 0.0f;
#pragma unroll 1
    for (int j = 0; j < num_interests; ++j) direction = fmaf(inverse_norms[j], interests[j * dim + c], direction);
    squares = fmaf(direction, direction, squares);
  }
  const auto m = static_cast<float>(num_interests);
  return 1.0f - (warp_reduce(squares, Sum()) - m) / (m * (m - 1.0f));
}

// By all threads of a block. buffers.context holds the interests, followed by gap and length; they may have been
// written just before. On return every thread may read buffers.weights; fused needs another barrier before other
// threads read it.
__device__ inline void block_fusion(const InterestFusionParams& params, const FusionBuffers& buffers, float* fused) {
  const int num_interests = static_cast<int>(params.num_interests);
  const int dim = static_cast<int>(params.dim);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp;
  __syncthreads();
#pragma unroll 1
  for (int j = thread / kWarp; j < num_interests; j += kEncoderWarps) {
    const float inverse = inverse_norm(buffers.context + j * dim, dim);
    if (lane == 0) buffers.logits[j] = inverse;  // temporarily
  }
  __syncthreads();
  if (thread < kWarp) {
    const float spread = dispersion(buffers.context, buffers.logits, num_interests, dim);
    if (lane == 0) buffers.context[num_interests * dim + 2] = spread;
  }
  block_vector_linear(params.hidden, buffers.context, buffers.hidden);
  block_vector_linear(params.logits, buffers.hidden, buffers.logits);
  float top = -__builtin_inff();
#pragma unroll 1
  for (int j = lane; j < num_interests; j += kWarp) top = fmaxf(top, buffers.logits[j]);
  top = warp_reduce(top, Max());
  float total = 0.0f;
#pragma unroll 1
  for (int j = lane; j < num_interests; j += kWarp) total += expf(buffers.logits[j] - top);
  total = warp_reduce(total, Sum());
#pragma unroll 1
  for (int j = thread; j < num_interests; j += kEncoderThreads) {
    buffers.weights[j] = expf(buffers.logits[j] - top) / total;
  }
  __syncthreads();
#pragma unroll 1
  for (int c = thread; c < dim; c += kEncoderThreads) {
    float sum = 0.0f;
#pragma unroll 1
    for (int j = 0; j < num_interests; ++j) sum = fmaf(buffers.weights[j], buffers.context[j * dim + c], sum);
    fused[c] = sum;
  }
}

}  // namespace lsif::cuda
