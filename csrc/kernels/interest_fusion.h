// Interest fusion of one user: adaptive attention over the user's interests          (docs/model.md, 4)
//
//   weights = softmax(logits silu(hidden [v_0, .., v_{M-1}, gap, length, dispersion] + b) + b)
//   fused   = sum_j weights[j] v_j
//   dispersion = 1 - (|sum_j v_j / |v_j||^2 - M) / (M (M - 1)), |v| = sqrt(v.v + 1e-12); 0 if M = 1
//
// Float32; relative error <= (M dim + fusion_dim) 2^-23 plus the exponentials' 2 ulp.
#pragma once

#include "kernels/linear.h"
#include "kernels/types.h"

namespace lsif {

inline constexpr int64_t kFusionContext = 3;

struct InterestFusionParams {
  LinearParams hidden;  // num_interests * dim + kFusionContext -> fusion_dim, kSilu
  LinearParams logits;  // fusion_dim -> num_interests, kIdentity
  int64_t num_interests;
  int64_t dim;
};

// Floats of scratch one call needs.
constexpr int64_t interest_fusion_scratch_size(const InterestFusionParams& params) {
  return params.hidden.in_dim + params.hidden.out_dim + params.dim + 64;
}

// interests: [num_interests, dim], contiguous; weights: [num_interests]; fused: [dim].
using InterestFusionFn = void(const InterestFusionParams& params, const float* interests, float gap, float length,
                              float* weights, float* fused, float* scratch);

}  // namespace lsif
