// Windowed causal attention of one sequence with additive position and time bias     (docs/model.md, 2)
//
//   s[h,i,j] = q_i.k_j / sqrt(head_dim) + position_bias[h, i - j] + time_bias[h, bucket(query_times[i] - times[j])]
//   kSoftmax: o_i = sum_j softmax_j(s[h,i,:]) v_j        kSilu: o_i = (1 / window) sum_j silu(s[h,i,j]) v_j
//   over max(0, i - window + 1) <= j <= i. With shared_keys every head has the same k_j and v_j (multi-query attention,
//   Shazeer 2019).
//
// bucket(dt) = 0 if either time is kUnknownTime, else 1 + #{b : time_boundaries[b] <= max(dt, 0)}. Time differences
// saturate instead of overflowing. Times need not be sorted.
//
// Float32 throughout unless bf16 is set; softmax subtracts the row's maximum. With u = 2^-24, the error of a logit is
// at most e = u ((head_dim + 7) sum_c |q_c k_c| / sqrt(head_dim) + 4 |position bias| + 4 |time bias|). The error of an
// output over n keys is at most
//   kSoftmax: sum_j p_j |v_j| (d_j + sum_k p_k d_k + (2 n + 14) u), d_j = e_j + u |s_j - max s|, to first order
//   kSilu:    (1 / window) sum_j (1.1 e_j + (n + 13) u |silu(s_j)|) |v_j|
// Row i reads only the keys and values of its window and adds them in ascending order of j, so every call that covers
// its whole window gives the same bits. This requires |q|, |k| and |v| below 2^127, so that they stay finite when
// rounded to bf16. y must not overlap q, k or v.
//
// With bf16, the operands of the products are rounded to 8 bits of precision, as in linear.h: q, k, v, and the weights
// before the division by their sum or by the window. Everything else stays float32. The bounds above then hold for the
// rounded q, k and v, plus 2^-8 sum_j |w_j v_j| for the rounded weights w_j.
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

inline constexpr int64_t kAttentionTile = 128;  // queries per tile; a kernel lays out the keys once per tile
inline constexpr int64_t kAttentionRows = 8;    // the most queries a kernel computes at once
inline constexpr int64_t kAttentionSlack = 16;  // the most floats a kernel reads past the scratch it needs

// How a CPU kernel divides its scratch: the size of each part and the strides of their rows, in floats.
struct AttentionScratch {
  int64_t keys_stride;
  int64_t row_stride;
  int64_t position_bias;
  int64_t keys;
  int64_t time_bias;
  int64_t scores;
  int64_t values;   // bf16: two copies of the tile's values, paired from the first or from the second key on
  int64_t rounded;  // bf16: the rounded queries or weights being multiplied
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

// Floats of scratch one call needs. Bounded for any sequence length: at most what kAttentionTile + window events need.
constexpr int64_t attention_scratch_size(const AttentionParams& params, int64_t seq_len) {
  const AttentionScratch parts = attention_scratch(params, seq_len);
  return parts.position_bias + parts.keys + parts.time_bias + parts.scores + parts.values + parts.rounded;
}

// Computes queries first_query .. seq_len - 1. q and y ([seq_len - first_query, num_heads * head_dim]) begin with query
// first_query.
using AttentionFn = void(const AttentionParams& params, const AttentionInput& input, int64_t first_query, float* y,
                         int64_t y_stride, float* scratch);

}  // namespace lsif
