// Windowed causal attention of one sequence with additive position and time bias     (docs/model.md, 2)
//
//   s[h,i,j] = q_i.k_j / sqrt(head_dim) + position_bias[h, i - j] + time_bias[h, bucket(query_times[i] - times[j])]
//   kSoftmax: o_i = sum_j softmax_j(s[h,i,:]) v_j        kSilu: o_i = (1 / window) sum_j silu(s[h,i,j]) v_j
//   over max(0, i - window + 1) <= j <= i.
//
// bucket(dt) = 0 if either time is kUnknownTime, else 1 + #{b : time_boundaries[b] <= max(dt, 0)}; integer arithmetic that
// saturates instead of overflowing. Times need not be sorted. Float32 throughout; softmax subtracts the row maximum.
// Position i reads keys and values of its window only, and in an order that depends on i - j alone.
#pragma once

#include "kernels/types.h"

namespace lsif {

enum class AttentionKind : int32_t { kSoftmax = 0, kSilu = 1 };

struct AttentionParams {
  AttentionKind kind;
  int64_t num_heads;
  int64_t head_dim;
  int64_t window;
  const float* position_bias;      // [num_heads, window]
  const float* time_bias;          // [num_heads, num_time_boundaries + 2], or null: no time term
  const int64_t* time_boundaries;  // [num_time_boundaries], strictly increasing; unused without time_bias
  int64_t num_time_boundaries;
};

struct AttentionInput {
  const float* q;  // [seq_len, num_heads * head_dim], head h in columns h * head_dim ..; likewise k and v
  const float* k;
  const float* v;
  int64_t stride;              // of q, k and v
  const int64_t* times;        // [seq_len]; null: all unknown
  const int64_t* query_times;  // [seq_len]; null: all unknown
  int64_t seq_len;
};

// Floats of scratch one call needs.
constexpr int64_t attention_scratch_size(const AttentionParams& params, int64_t seq_len) {
  const int64_t keys = (params.window < seq_len ? params.window : seq_len) + 64;
  const int64_t columns = (seq_len + 63) / 64 * 64 + 64;
  return 2 * keys + columns * params.head_dim;
}

// Writes rows first_query .. seq_len - 1 of y ([seq_len, num_heads * head_dim], row i at y + i * y_stride), no others.
using AttentionFn = void(const AttentionParams& params, const AttentionInput& input, int64_t first_query, float* y,
                         int64_t y_stride, float* scratch);

}  // namespace lsif
