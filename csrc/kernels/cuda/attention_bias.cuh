// The bias of a query's logit for a key                                                       (kernels/attention.h)
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/device.cuh"

namespace lsif::cuda {

__device__ inline int64_t time_bucket(const AttentionParams& params, int64_t query_time, int64_t time) {
  if (query_time == kUnknownTime || time == kUnknownTime) return 0;
  const int64_t dt = elapsed(time, query_time);
  return 1 + partition_point(params.num_time_boundaries, [&](int64_t b) { return params.time_boundaries[b] <= dt; });
}

__device__ inline float attention_bias(const AttentionParams& params, int64_t head, int64_t distance, int64_t bucket) {
  const float position = params.position_bias[head * params.window + distance];
  if (params.time_bias == nullptr) return position;
  return position + params.time_bias[head * (params.num_time_boundaries + 2) + bucket];
}

// The bias of key `key` for query `row` of the same sequence.
__device__ inline float bias_of(const AttentionParams& params, const AttentionInput& input, int64_t head, int64_t row,
                                int64_t key) {
  const bool is_timed = params.time_bias != nullptr && input.times != nullptr && input.query_times != nullptr;
  const int64_t bucket = is_timed ? time_bucket(params, input.query_times[row], input.times[key]) : 0;
  return attention_bias(params, head, row - key, bucket);
}

}  // namespace lsif::cuda
