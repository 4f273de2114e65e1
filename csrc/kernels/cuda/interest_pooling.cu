#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.h"

namespace lsif::cuda {
namespace {

// The linear layers are launched for all events at once; this kernel pools: a block per sequence and interest.
__global__ void pool_kernel(const float* logits, const float* decay, int64_t num_interests, const float* x,
                            int64_t x_stride, int64_t dim, const int64_t* times, const int64_t* newest_times,
                            const int64_t* offsets, int64_t most_events, float* y) {
  const int64_t sequence = blockIdx.x / num_interests;
  const int64_t interest = blockIdx.x % num_interests;
  const int64_t end = offsets[sequence + 1];
  const int64_t begin = end - offsets[sequence] > most_events ? end - most_events : offsets[sequence];
  int64_t newest_time = kUnknownTime;
  if (times != nullptr && begin != end) newest_time = newest_times == nullptr ? times[end - 1] : newest_times[sequence];
  const auto logit = [&](int64_t j) {
    return aged(logits[(begin + j) * num_interests + interest], decay, interest,
                times == nullptr ? kUnknownTime : times[begin + j], newest_time);
  };
  weighted_sum<true>(end - begin, logit, x + begin * x_stride, x_stride, dim, y + blockIdx.x * dim);
}

}  // namespace

cudaError_t interest_pooling(const InterestPoolingParams& params, const float* x, int64_t x_stride,
                             const int64_t* times, const int64_t* newest_times, const int64_t* offsets, int64_t batch,
                             int64_t total, float* y, float* scratch, cudaStream_t stream, int64_t most_events) {
  const int64_t pooling_dim = params.hidden.out_dim;
  const int64_t num_interests = params.logits.out_dim;
  float* hidden = scratch;                       // [total, pooling_dim]
  float* logits = hidden + total * pooling_dim;  // [total, num_interests]
  cudaError_t error = linear(params.hidden, x, x_stride, nullptr, 0, hidden, pooling_dim, total, stream);
  if (error != cudaSuccess) return error;
  error = linear(params.logits, hidden, pooling_dim, nullptr, 0, logits, num_interests, total, stream);
  if (error != cudaSuccess) return error;
  return launch(pool_kernel, batch * num_interests, kThreads, stream, logits, params.decay, num_interests, x, x_stride,
                params.hidden.in_dim, times, newest_times, offsets, most_events, y);
}

}  // namespace lsif::cuda
