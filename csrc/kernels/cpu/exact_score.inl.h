// Implements ExactScoreFn of kernels/score_topk.h. Compiled without FMA contraction (cmake/kernels.cmake), so that all
// ISAs give the same bits.
#pragma once

#include <math.h>

#include "kernels/exact_dot.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// Kept out of exact_score(), which is inlined where rows are scored.
__attribute__((noinline)) double exact_log_sum(const float* vectors, const float* weights, int64_t num_interests,
                                               double temperature, const float* x, int64_t dim) {
  double dots[kMaxScoreInterests];
  double largest = 0;
  for (int64_t j = 0; j < num_interests; ++j) {
    dots[j] = exact_dot(vectors + j * dim, x, dim);
    if (j == 0 || dots[j] > largest) largest = dots[j];
  }
  // Relative to the largest term, so that no exponential overflows; weights are at least 2^-149, so the sum is never 0.
  double sum = 0;
  for (int64_t j = 0; j < num_interests; ++j) {
    sum += static_cast<double>(weights[j]) * ::exp((dots[j] - largest) / temperature);
  }
  return largest + temperature * ::log(sum);
}

inline double exact_score(const float* vectors, const float* weights, int64_t num_interests, double temperature,
                          const float* x, float b, int64_t dim) {
  const double score = weights == nullptr ? exact_dot(vectors, x, dim)
                                          : exact_log_sum(vectors, weights, num_interests, temperature, x, dim);
  return score + static_cast<double>(b);
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
