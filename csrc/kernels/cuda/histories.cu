#include "kernels/cuda/device.cuh"
#include "kernels/cuda/fusion_context.cuh"
#include "kernels/cuda/launch.h"

namespace lsif::cuda {
namespace {

// A thread per event.
__global__ void query_times_kernel(Histories histories, int64_t* query_times) {
  const int64_t row = global_thread();
  if (row >= histories.total) return;
  const int64_t history =
      partition_point(histories.batch + 1, [&](int64_t b) { return histories.offsets[b] <= row; }) - 1;
  int64_t time = histories.times[row];
  if (row + 1 < histories.offsets[history + 1]) {
    time = histories.times[row + 1];
  } else if (histories.now != nullptr && histories.now[history] != kUnknownTime) {
    time = histories.now[history];
  }
  query_times[row] = time;
}

// A thread per number.
__global__ void gather_interests_kernel(Histories histories, InterestParts parts, float* interests) {
  const int64_t num_interests = parts.num_long + parts.num_short + 1;
  const int64_t place = global_thread();
  if (place >= histories.batch * num_interests * parts.dim) return;
  const int64_t column = place % parts.dim;
  const int64_t interest = place / parts.dim % num_interests;
  const int64_t history = place / parts.dim / num_interests;
  const int64_t end = histories.offsets[history + 1];
  float value = 0.0f;
  if (interest < parts.num_long) {
    value = parts.long_interests[(history * parts.num_long + interest) * parts.dim + column];
  } else if (interest < parts.num_long + parts.num_short) {
    const int64_t row = history * parts.num_short + interest - parts.num_long;
    value = parts.short_interests[row * parts.dim + column];
  } else if (end > histories.offsets[history]) {
    value = parts.states[(end - 1) * parts.dim + column];
  }
  interests[place] = value;
}

// A thread per history.
__global__ void fusion_context_kernel(Histories histories, float* gap, float* length) {
  const int64_t history = global_thread();
  if (history >= histories.batch) return;
  const int64_t end = histories.offsets[history + 1];
  const int64_t num_events = end - histories.offsets[history];
  length[history] = length_feature(num_events);
  const bool is_timed = histories.now != nullptr && histories.times != nullptr && num_events > 0;
  gap[history] = is_timed ? gap_feature(histories.times[end - 1], histories.now[history]) : 0.0f;
}

// A block per history.
__global__ void clear_empty_kernel(Histories histories, float* weights, int64_t num_interests, float* fused,
                                   int64_t dim) {
  const int64_t history = blockIdx.x;
  if (histories.offsets[history] != histories.offsets[history + 1]) return;
  for (int64_t i = threadIdx.x; i < num_interests; i += kThreads) weights[history * num_interests + i] = 0.0f;
  for (int64_t i = threadIdx.x; i < dim; i += kThreads) fused[history * dim + i] = 0.0f;
}

}  // namespace

cudaError_t query_times(const Histories& histories, int64_t* query_times, cudaStream_t stream) {
  return launch(query_times_kernel, divide_up(histories.total, kThreads), kThreads, stream, histories, query_times);
}

cudaError_t gather_interests(const Histories& histories, const InterestParts& parts, float* interests,
                             cudaStream_t stream) {
  const int64_t size = histories.batch * (parts.num_long + parts.num_short + 1) * parts.dim;
  return launch(gather_interests_kernel, divide_up(size, kThreads), kThreads, stream, histories, parts, interests);
}

cudaError_t fusion_context(const Histories& histories, float* gap, float* length, cudaStream_t stream) {
  return launch(fusion_context_kernel, divide_up(histories.batch, kThreads), kThreads, stream, histories, gap, length);
}

cudaError_t clear_empty(const Histories& histories, float* weights, int64_t num_interests, float* fused, int64_t dim,
                        cudaStream_t stream) {
  return launch(clear_empty_kernel, histories.batch, kThreads, stream, histories, weights, num_interests, fused, dim);
}

}  // namespace lsif::cuda
