// Steps shared by encode_users.cu and user_states.cu, by one block of threads: rows of the blocks, and what follows
#pragma once

#include "kernels/cuda/encode_users.h"
#include "kernels/cuda/encoder_fusion.cuh"
#include "kernels/cuda/encoder_pooling.cuh"
#include "kernels/cuda/encoder_rows.cuh"
#include "kernels/cuda/fusion_context.cuh"

namespace lsif::cuda {

constexpr int64_t round_up_to_4(int64_t n) { return (n + 3) / 4 * 4; }

constexpr int64_t most_pooled(const EncoderShape& s) { return s.num_long > s.num_short ? s.num_long : s.num_short; }

constexpr int64_t kept_states(const EncoderShape& s) { return s.num_short > 0 ? s.short_window : 1; }

// Floats that one user's poolings and fusion take from an arena.
constexpr int64_t interests_size(const EncoderShape& s) {
  const int64_t chunk = padded_stride(s.dim) + padded_stride(s.pooling_dim) + padded_stride(most_pooled(s));
  return kPoolingRows * chunk + round_up_to_4(s.num_interests() * s.dim + kFusionContext) +
         padded_stride(s.fusion_dim) + 2 * round_up_to_4(s.num_interests()) + 3 * round_up_to_4(most_pooled(s)) +
         s.num_long * padded_stride(s.dim);
}

struct EncoderOutputs {
  float* fused;
  float* interests;
  float* weights;
};

// The rest of a layer, after attention, for `count` rows: x becomes the layer's result. mixed: attention's output,
// overwritten; projected: the rows' outputs of `input`, overwritten by the feed-forward layer's.
__device__ inline void finish_layer(const EncoderShape& shape, const BlockParams& block, const RowsView& x,
                                    const RowsView& mixed, const RowsView& projected, int count) {
  const bool is_hstu = block.attention.kind == AttentionKind::kSilu;
  if (is_hstu) {
    norm_rows(block.output_norm, mixed, 0, count, projected.data + 3 * shape.dim, projected.stride, mixed);
  }
  const LinearOutput result = {x.data, x.stride, x.data, x.stride};
  block_linear(block.output, mixed, count, result);
  if (is_hstu) return;
  norm_rows(block.ffn_norm, x, 0, count, nullptr, 0, mixed);
  const RowsView hidden = {projected.data, static_cast<int>(padded_stride(shape.ffn_dim))};
  block_linear(block.ffn_up, mixed, count, {nullptr, 0, hidden.data, hidden.stride});
  block_linear(block.ffn_down, hidden, count, result);
}

// Computes the interests of one user, and holds the memory for them.
struct UserInterests {
  const EncoderParams& params;
  FusionBuffers fusion;
  float* pooling_state;

  __device__ UserInterests(const EncoderParams& p, BlockArena& arena) : params(p) {
    const int64_t num_interests = p.shape.num_interests();
    fusion.context = arena.take(num_interests * p.shape.dim + kFusionContext);
    fusion.hidden = arena.take(padded_stride(p.shape.fusion_dim));
    fusion.logits = arena.take(num_interests);
    fusion.weights = arena.take(num_interests);
    pooling_state = arena.take(3 * round_up_to_4(most_pooled(p.shape)));
  }

  __device__ int dim() const { return static_cast<int>(params.shape.dim); }

  __device__ PoolingBuffers pooling_buffers(BlockArena& free, int64_t num_interests) const {
    const int64_t count = round_up_to_4(num_interests);
    return {free.rows(kPoolingRows, static_cast<int>(padded_stride(params.shape.pooling_dim))),
            free.rows(kPoolingRows, static_cast<int>(padded_stride(num_interests))), pooling_state,
            pooling_state + count, pooling_state + 2 * count};
  }

  // pooled: [num_long, dim], may have been written just before.
  __device__ void add_long(const RowsView& pooled) const {
    block_linear(params.long_value, pooled, static_cast<int>(params.shape.num_long),
                 {nullptr, 0, fusion.context, dim()});
  }

  // rows: as in block_pooling, for the newest num_states states.
  template <typename Rows>
  __device__ void add_short(int num_states, const Rows& rows, BlockArena free) const {
    const PoolingBuffers buffers = pooling_buffers(free, params.shape.num_short);
    block_pooling(params.short_pooling, num_states, rows, {nullptr, kUnknownTime}, buffers,
                  {fusion.context + params.shape.num_long * dim(), dim()});
  }

  // The other inputs of the fusion, by one thread, and slow: call it before something the others must wait for anyway.
  __device__ void add_context(int64_t seq_len, int64_t newest_time, int64_t now) const {
    if (threadIdx.x + 1 != kEncoderThreads) return;
    float* context = fusion.context + params.shape.num_interests() * dim();
    context[0] = params.request_time ? gap_feature(newest_time, now) : 0.0f;
    context[1] = length_feature(seq_len);
  }

  // Adds the newest state as the last interest, then fuses. out: of this user.
  __device__ void fuse(const float* newest_state, const EncoderOutputs& out) const {
    const int thread = static_cast<int>(threadIdx.x);
    const int num_interests = static_cast<int>(params.shape.num_interests());
    float* newest = fusion.context + (num_interests - 1) * dim();
#pragma unroll 1
    for (int c = thread; c < dim(); c += kEncoderThreads) newest[c] = newest_state[c];
    block_fusion(params.fusion, fusion, out.fused);
#pragma unroll 1
    for (int i = thread; i < num_interests * dim(); i += kEncoderThreads) out.interests[i] = fusion.context[i];
#pragma unroll 1
    for (int i = thread; i < num_interests; i += kEncoderThreads) out.weights[i] = fusion.weights[i];
  }
};

// Writes zeros, for a user without events.
__device__ inline void clear_outputs(const EncoderShape& shape, const EncoderOutputs& out) {
  const int64_t dim = shape.dim;
  const int64_t num_interests = shape.num_interests();
#pragma unroll 1
  for (int64_t i = threadIdx.x; i < dim; i += kEncoderThreads) out.fused[i] = 0.0f;
#pragma unroll 1
  for (int64_t i = threadIdx.x; i < num_interests * dim; i += kEncoderThreads) out.interests[i] = 0.0f;
#pragma unroll 1
  for (int64_t i = threadIdx.x; i < num_interests; i += kEncoderThreads) out.weights[i] = 0.0f;
}

__device__ inline EncoderOutputs outputs_of(const EncoderShape& shape, const EncoderOutputs& out, int64_t user) {
  const int64_t num_interests = shape.num_interests();
  return {out.fused + user * shape.dim, out.interests + user * num_interests * shape.dim,
          out.weights + user * num_interests};
}

}  // namespace lsif::cuda
