// Interest fusion of one user: adaptive attention over the user's interests          (docs/model.md, 4)
//
//   weights = softmax(logits silu(hidden [v_0, .., v_{M-1}, gap, length, dispersion] + b) + b)
//   fused   = sum_j weights[j] v_j
//   dispersion = 1 - (|sum_j v_j / |v_j||^2 - M) / (M (M - 1)), |v| = sqrt(v.v + 1e-12); 0 if M = 1
//
// Float32 throughout. With u = 2^-24, the error of dispersion is at most u ((3 dim + 2 M + 14) M / (M - 1) + 6). The
// errors of the two linear layers follow from linear.h. If e_j is the error of logit j, including u |logit_j - max
// logit|, the error of weight w_j is at most w_j (e_j + sum_k w_k e_k + (M + 12) u), to first order.
#pragma once

#include "kernels/linear.h"
#include "kernels/types.h"

namespace lsif {

inline constexpr int64_t kFusionContext = 3;

// gap = log(1 + seconds) / log(1 + kSecondsPerYear), length = log(1 + events) / log(1 + kManyEvents)
inline constexpr double kSecondsPerYear = 365 * kSecondsPerDay;
inline constexpr double kManyEvents = 1000;
inline constexpr float kDirectionEps = 1e-12f;  // added to v.v in |v|

struct InterestFusionParams {
  LinearParams hidden;  // num_interests * dim + kFusionContext -> fusion_dim, kSilu
  LinearParams logits;  // fusion_dim -> num_interests, kIdentity
  int64_t num_interests;
  int64_t dim;
};

// Floats of scratch one call needs.
constexpr int64_t interest_fusion_scratch_size(const InterestFusionParams& params) {
  return params.hidden.in_dim + params.hidden.out_dim + params.dim;
}

// interests: [num_interests, dim], contiguous; weights: [num_interests]; fused: [dim]; no overlaps.
using InterestFusionFn = void(const InterestFusionParams& params, const float* interests, float gap, float length,
                              float* weights, float* fused, float* scratch);

}  // namespace lsif
