// Interest pooling of one sequence: num_interests heads of additive attention        (docs/model.md, 3)
//
//   logit[a,j] = logits[a] . silu(hidden x_j + b) - decay[a] * age_j,   age_j = max(newest_time - t_j, 0) / 86400 days
//   y[a]       = sum_j softmax_j(logit[a,:]) x_j
//
// age_j is 0 where either time is kUnknownTime. Events are read in chunks of kPoolingChunk from the first on, with a running
// (maximum, denominator, numerator) per interest, so any history length needs the same scratch and the result depends on
// the sequence alone. Float32; relative error <= (seq_len + pooling_dim + in_dim) 2^-23 of sum_j p_j |x_j| plus the logits' error.
// seq_len = 0 gives zeros.
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
  return kPoolingChunk * (params.hidden.out_dim + params.logits.out_dim) + 2 * params.logits.out_dim + 64;
}

// x: [seq_len, dim]; times: [seq_len] or null: all unknown; y: [num_interests, dim], contiguous.
using InterestPoolingFn = void(const InterestPoolingParams& params, const float* x, int64_t x_stride,
                               const int64_t* times, int64_t newest_time, int64_t seq_len, float* y, float* scratch);

}  // namespace lsif
