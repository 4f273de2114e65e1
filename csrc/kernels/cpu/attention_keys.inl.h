// The arguments and scratch of one attention call, and the layout of its keys.
#pragma once

#include "kernels/attention.h"
#include "kernels/cpu/bfloat16.inl.h"
#include "kernels/cpu/multiply_add.inl.h"
#include "kernels/cpu/simd.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

static_assert(kMaxRows <= kAttentionRows && kLanes <= kAttentionSlack);

// One call: its arguments and how its scratch is divided. After each part there is room to read a whole vector past its
// end.
struct AttentionCall {
  const AttentionParams* params;
  const AttentionInput* input;
  int64_t first_query;
  float* y;
  int64_t y_stride;
  float unit;            // of logits: log2 e for softmax, which uses powers of 2; otherwise 1
  float scale;           // unit / sqrt(head_dim)
  int64_t keys_stride;   // columns of `keys`
  int64_t row_stride;    // columns of `scores` and `time_bias`
  float* position_bias;  // [num_heads, window]: params->position_bias in units of `unit`, the newest key last
  float* keys;           // [key_heads * head_dim, keys_stride]: the tile's keys, transposed
  float* time_bias;      // [kMaxRows, num_heads, row_stride]: for one block of queries, in units of `unit`
  float* scores;         // [kMaxRows, row_stride]: for one block and head; later its weights
  float* values[2];      // bf16: [.., key_heads * head_dim] pairs of the tile's values, from its first or second key on
  Rounded* rounded;      // bf16: [kMaxRows, rounded_stride]
  int64_t rounded_stride;
};

// The first key of query i.
LSIF_INLINE int64_t first_key(const AttentionCall& call, int64_t i) { return larger(0, i - call.params->window + 1); }

inline void reverse_position_bias(const AttentionCall& call) {
  const int64_t window = call.params->window;
  for (int64_t h = 0; h < call.params->num_heads; ++h) {
    for (int64_t d = 0; d < window; ++d) {
      call.position_bias[h * window + window - 1 - d] = call.params->position_bias[h * window + d] * call.unit;
    }
  }
}

LSIF_INLINE void transpose_block(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  Vec rows[kLanes];
  for (int i = 0; i < kLanes; ++i) rows[i] = load(from + i * from_stride);
  transpose(rows);
  for (int i = 0; i < kLanes; ++i) store(to + i * to_stride, rows[i]);
}

inline void transpose_keys(const AttentionCall& call, int64_t begin, int64_t end) {
  const int64_t columns = call.params->key_heads() * call.params->head_dim;
  const int64_t stride = call.input->stride;
  const float* k = call.input->k + begin * stride;
  int64_t j = 0;
  for (; j + kLanes <= end - begin; j += kLanes, k += kLanes * stride) {
    int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) {
      transpose_block(k + c, stride, call.keys + c * call.keys_stride + j, call.keys_stride);
    }
    for (; c < columns; ++c) {
      for (int64_t r = 0; r < kLanes; ++r) call.keys[c * call.keys_stride + j + r] = k[r * stride + c];
    }
  }
  for (; j < end - begin; ++j, k += stride) {
    for (int64_t c = 0; c < columns; ++c) call.keys[c * call.keys_stride + j] = k[c];
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
