#include "kernels/cuda/attention_bf16.h"
#include "kernels/cuda/attention_bias.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.h"

namespace lsif::cuda {
namespace {

struct Sequences {
  const int64_t* offsets;
  int64_t batch;
};

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
    return fmaf(dot, scale, bias_of(params, input, head, row, first + j));
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
  if (params.bf16) return attention_bf16(params, input, offsets, batch, y, y_stride, stream);
  return launch(attention_kernel, input.seq_len * params.num_heads, kThreads, stream, params, input,
                Sequences{offsets, batch}, y, y_stride);
}

}  // namespace lsif::cuda
