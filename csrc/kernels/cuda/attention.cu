#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.h"

namespace lsif::cuda {
namespace {

struct Sequences {
  const int64_t* offsets;
  int64_t batch;
};

// The bias of key `key` for the query `row` of the same sequence.
__device__ float attention_bias(const AttentionParams& params, const AttentionInput& input, int64_t head, int64_t row,
                                int64_t key) {
  const float position = params.position_bias[head * params.window + row - key];
  if (params.time_bias == nullptr) return position;
  const int64_t query_time = input.query_times == nullptr ? kUnknownTime : input.query_times[row];
  const int64_t time = input.times == nullptr ? kUnknownTime : input.times[key];
  int64_t bucket = 0;
  if (query_time != kUnknownTime && time != kUnknownTime) {
    const int64_t dt = elapsed(time, query_time);
    bucket =
        1 + partition_point(params.num_time_boundaries, [&](int64_t b) { return params.time_boundaries[b] <= dt; });
  }
  return position + params.time_bias[head * (params.num_time_boundaries + 2) + bucket];
}

// A block per query and head, a thread per key.
__global__ void attention_kernel(AttentionParams params, AttentionInput input, Sequences sequences, float* y,
                                 int64_t y_stride) {
  const int64_t row = blockIdx.x / params.num_heads;
  const int64_t head = blockIdx.x % params.num_heads;
  const int64_t column = head * params.head_dim;
  const int64_t key_column = params.shared_keys ? 0 : column;
  const int64_t sequence =
      partition_point(sequences.batch + 1, [&](int64_t b) { return sequences.offsets[b] <= row; }) - 1;
  const int64_t begin = sequences.offsets[sequence];
  const int64_t first = row - params.window + 1 > begin ? row - params.window + 1 : begin;
  const float* q = input.q + row * input.q_stride + column;
  const float scale = 1.0f / sqrtf(static_cast<float>(params.head_dim));
  const auto logit = [&](int64_t j) {
    const float* k = input.k + (first + j) * input.stride + key_column;
    float dot = 0.0f;
    for (int64_t c = 0; c < params.head_dim; ++c) dot = fmaf(q[c], k[c], dot);
    return fmaf(dot, scale, attention_bias(params, input, head, row, first + j));
  };
  const float* v = input.v + first * input.stride + key_column;
  float* out = y + row * y_stride + column;
  const int64_t num_keys = row + 1 - first;
  if (params.kind == AttentionKind::kSoftmax) {
    weighted_sum<true>(num_keys, logit, v, input.stride, params.head_dim, out);
  } else {
    const float factor = 1.0f / static_cast<float>(params.window);
    weighted_sum<false>(
        num_keys, [&](int64_t j) { return factor * silu(logit(j)); }, v, input.stride, params.head_dim, out);
  }
}

}  // namespace

cudaError_t attention(const AttentionParams& params, const AttentionInput& input, const int64_t* offsets, int64_t batch,
                      float* y, int64_t y_stride, cudaStream_t stream) {
  if (params.bf16) return cudaErrorInvalidValue;
  return launch(attention_kernel, input.seq_len * params.num_heads, kThreads, stream, params, input,
                Sequences{offsets, batch}, y, y_stride);
}

}  // namespace lsif::cuda
