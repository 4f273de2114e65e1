// Interest pooling of one sequence: num_interests heads of additive attention        (docs/model.md, 3)
//
//   logit[a,j] = logits[a] . silu(hidden x_j + b) - decay[a] * age_j,   age_j = max(newest_time - t_j, 0) / 86400 days
//   y[a]       = sum_j softmax_j(logit[a,:]) x_j
//
// age_j is 0 where either time is kUnknownTime; differences saturate at INT64_MAX. Events are read in chunks of
// kPoolingChunk, from the first event on, with a running (maximum, denominator, numerator) per interest. So any history
// needs the same scratch, and the result depends only on the sequence. An event whose decay * age exceeds float32 gets
// weight 0. The result is 0 if seq_len = 0 or if all weights are 0.
//
// Float32 throughout. With u = 2^-24, let e_j be the error of logit j (that of its two linear layers plus 3 u decay
// age_j + u |logit_j|) and d_j = e_j + u |logit_j - max logit| + 5 u chunks. The error of y is at most sum_j p_j |x_j|
// (d_j + sum_k p_k d_k + (2 seq_len + 12) u), to first order.
#pragma once

#include "kernels/linear.h"
#include "kernels/types.h"

namespace lsif {

inline constexpr int64_t kPoolingChunk = 64;

struct InterestPoolingParams {
  LinearParams hidden;  // dim -> pooling_dim, kSilu
  LinearParams logits;  // pooling_dim -> num_interests, no bias, kIdentity
  const float* decay;   // [num_interests], >= 0, per day; or null: no decay
};

// Floats of scratch one call needs.
constexpr int64_t interest_pooling_scratch_size(const InterestPoolingParams& params) {
  return kPoolingChunk * (params.hidden.out_dim + 2 * params.logits.out_dim) + 2 * params.logits.out_dim;
}

// x: [seq_len, dim]; times: [seq_len] or null: all unknown; y: [num_interests, dim], contiguous, must not overlap x.
using InterestPoolingFn = void(const InterestPoolingParams& params, const float* x, int64_t x_stride,
                               const int64_t* times, int64_t newest_time, int64_t seq_len, float* y, float* scratch);

}  // namespace lsif
