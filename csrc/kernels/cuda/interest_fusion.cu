#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.h"

namespace lsif::cuda {
namespace {

// A block per user: writes its interests and context as input of the hidden layer.  inverse_norms: [batch,
// num_interests]
__global__ void context_kernel(const float* interests, const float* gap, const float* length, int64_t num_interests,
                               int64_t dim, float* inverse_norms, float* input) {
  const int64_t user = blockIdx.x;
  const int64_t size = num_interests * dim;
  const float* v = interests + user * size;
  inverse_norms += user * num_interests;
  input += user * (size + kFusionContext);
  for (int64_t i = threadIdx.x; i < size; i += kThreads) input[i] = v[i];
  for (int64_t j = 0; j < num_interests; ++j) {
    float squares = 0.0f;
    for (int64_t c = threadIdx.x; c < dim; c += kThreads) squares = fmaf(v[j * dim + c], v[j * dim + c], squares);
    squares = block_reduce(squares, Sum());
    if (threadIdx.x == 0) inverse_norms[j] = 1.0f / sqrtf(squares + kDirectionEps);
  }
  __syncthreads();
  float squares = 0.0f;  // of the sum of directions
  for (int64_t c = threadIdx.x; c < dim; c += kThreads) {
    float direction = 0.0f;
    for (int64_t j = 0; j < num_interests; ++j) direction = fmaf(inverse_norms[j], v[j * dim + c], direction);
    squares = fmaf(direction, direction, squares);
  }
  squares = block_reduce(squares, Sum());
  if (threadIdx.x != 0) return;
  const auto m = static_cast<float>(num_interests);
  input[size] = gap[user];
  input[size + 1] = length[user];
  input[size + 2] = num_interests == 1 ? 0.0f : 1.0f - (squares - m) / (m * (m - 1.0f));
}

// A block per user: weights = softmax(weights), fused = sum_j weights[j] v_j.
__global__ void fuse_kernel(const float* interests, int64_t num_interests, int64_t dim, float* weights, float* fused) {
  const int64_t user = blockIdx.x;
  const float* v = interests + user * num_interests * dim;
  weights += user * num_interests;
  float top = -__builtin_inff();
  for (int64_t j = threadIdx.x; j < num_interests; j += kThreads) top = fmaxf(top, weights[j]);
  top = block_reduce(top, Max());
  float total = 0.0f;
  for (int64_t j = threadIdx.x; j < num_interests; j += kThreads) total += expf(weights[j] - top);
  total = block_reduce(total, Sum());
  for (int64_t j = threadIdx.x; j < num_interests; j += kThreads) weights[j] = expf(weights[j] - top) / total;
  __syncthreads();
  for (int64_t c = threadIdx.x; c < dim; c += kThreads) {
    float sum = 0.0f;
    for (int64_t j = 0; j < num_interests; ++j) sum = fmaf(weights[j], v[j * dim + c], sum);
    fused[user * dim + c] = sum;
  }
}

}  // namespace

cudaError_t interest_fusion(const InterestFusionParams& params, const float* interests, const float* gap,
                            const float* length, int64_t batch, float* weights, float* fused, float* scratch,
                            cudaStream_t stream) {
  const int64_t num_interests = params.num_interests;
  const int64_t in_dim = params.hidden.in_dim;
  const int64_t fusion_dim = params.hidden.out_dim;
  float* input = scratch;                  // [batch, in_dim]
  float* hidden = input + batch * in_dim;  // [batch, fusion_dim]
  // `weights` first holds the inverse norms, then the logits.
  cudaError_t error = launch(context_kernel, batch, kThreads, stream, interests, gap, length, num_interests, params.dim,
                             weights, input);
  if (error != cudaSuccess) return error;
  error = linear(params.hidden, input, in_dim, nullptr, 0, hidden, fusion_dim, batch, stream);
  if (error != cudaSuccess) return error;
  error = linear(params.logits, hidden, fusion_dim, nullptr, 0, weights, num_interests, batch, stream);
  if (error != cudaSuccess) return error;
  return launch(fuse_kernel, batch, kThreads, stream, interests, num_interests, params.dim, weights, fused);
}

}  // namespace lsif::cuda
