// Windowed causal attention of one sequence with additive position and time bias     (docs/model.md, 2)
//
//   s[h,i,j] = q_i.k_j / sqrt(head_dim) + position_bias[h, i - j] + time_bias[h, bucket(query_times[i] - times[j])]
//   kSoftmax: o_i = sum_j softmax_j(s[h,i,:]) v_j        kSilu: o_i = (1 / window) sum_j silu(s[h,i,j]) v_j
//   over max(0, i - window + 1) <= j <= i. With shared_keys every head has the same k_j and v_j (multi-query attention,
//   Shazeer 2019).
//
// bucket(dt) = 0 if either time is kUnknownTime, else 1 + #{b : time_boundaries[b] <= max(dt, 0)}; integer arithmetic
// that saturates instead of overflowing. Times need not be sorted.
//
// Float32 throughout unless bf16 is set; softmax subtracts the row's maximum. With u = 2^-24, a logit's error is at
// most e = u ((head_dim + 7) sum_c |q_c k_c| / sqrt(head_dim) + 4 |position bias| + 4 |time bias|), and an output's,
// for n keys,
//   kSoftmax: sum_j p_j |v_j| (d_j + sum_k p_k d_k + (2 n + 14) u), d_j = e_j + u |s_j - max s|, to first order
//   kSilu:    (1 / window) sum_j (1.1 e_j + (n + 13) u |silu(s_j)|) |v_j|
// Row i depends on keys and values of its window only and adds them in ascending order of j, so it is the same bit for
// bit in any call that covers its whole window. |q|, |k| and |v| must be below 2^127 for that, as their roundings
// to bf16 must be finite; y must not overlap them.
//
// With bf16, q, k, v and the weights before they are divided by their sum, or by the window, are rounded to 8 bits of
// precision where they are multiplied, as in linear.h; all else stays as it is. The bounds above hold for the rounded
// q, k and v with, on top, 2^-8 sum_j |w_j v_j| for the rounded weights w_j.
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
  bool shared_keys = false;
  bool bf16 = false;

  constexpr int64_t key_heads() const { return shared_keys ? 1 : num_heads; }
  constexpr int64_t key_column(int64_t head) const { return shared_keys ? 0 : head * head_dim; }
};

struct AttentionInput {
  const float* q;  // [seq_len - first_query, num_heads * head_dim], head h in columns h * head_dim ..
  const float* k;  // [seq_len, key_heads * head_dim], head h from column key_column(h) on; likewise v
  const float* v;
  int64_t q_stride;
  int64_t stride;              // of k and v
  const int64_t* times;        // [seq_len]; null: all unknown
  const int64_t* query_times;  // [seq_len]; null: all unknown
  int64_t seq_len;             // may be 0
};

inline constexpr int64_t kAttentionTile = 128;  // queries for which keys are laid out anew
inline constexpr int64_t kAttentionRows = 8;    // a kernel computes at most so many queries at once,
inline constexpr int64_t kAttentionSlack = 16;  // and reads scratch at most so many floats past what it needs

// How a CPU kernel divides its scratch: floats of each part and the distance of their rows.
struct AttentionScratch {
  int64_t keys_stride;
  int64_t row_stride;
  int64_t position_bias;
  int64_t keys;
  int64_t time_bias;
  int64_t scores;
  int64_t values;   // bf16: of the tile's values, twice: pairs of keys that begin with the first or the second
  int64_t rounded;  // bf16: of queries or weights that are multiplied
  int64_t rounded_stride;
};

constexpr AttentionScratch attention_scratch(const AttentionParams& params, int64_t seq_len) {
  const int64_t window = params.window < seq_len ? params.window : seq_len;
  const int64_t keys = window + kAttentionTile < seq_len ? window + kAttentionTile : seq_len;
  AttentionScratch parts = {};
  parts.keys_stride = keys + kAttentionSlack;
  parts.row_stride = window + kAttentionRows + kAttentionSlack;
  parts.position_bias = params.num_heads * params.window + kAttentionSlack;
  const int64_t key_rows = params.bf16 ? (params.head_dim + 1) / 2 : params.head_dim;
  parts.keys = params.key_heads() * key_rows * parts.keys_stride;
  parts.time_bias = params.time_bias == nullptr ? 0 : kAttentionRows * params.num_heads * parts.row_stride;
  parts.scores = kAttentionRows * parts.row_stride;
  parts.rounded_stride = (parts.row_stride > params.head_dim ? parts.row_stride : params.head_dim) + kAttentionSlack;
  if (params.bf16) {
    parts.values = 2 * ((keys / 2 + 1) * params.key_heads() * params.head_dim + kAttentionSlack);
    parts.rounded = kAttentionRows * parts.rounded_stride;
  }
  return parts;
}

// Floats of scratch one call needs; however long the sequence, no more than for kAttentionTile + window events.
constexpr int64_t attention_scratch_size(const AttentionParams& params, int64_t seq_len) {
  const AttentionScratch parts = attention_scratch(params, seq_len);
  return parts.position_bias + parts.keys + parts.time_bias + parts.scores + parts.values + parts.rounded;
}

// For queries first_query .. seq_len - 1, with which q and y ([seq_len - first_query, num_heads * head_dim]) begin.
using AttentionFn = void(const AttentionParams& params, const AttentionInput& input, int64_t first_query, float* y,
                         int64_t y_stride, float* scratch);

}  // namespace lsif
