#include "kernels/score_topk.h"

#include <cmath>

#include "kernels/exact_dot.h"

namespace lsif {
double exact_score(const float* vectors, const float* weights, int64_t num_interests, double temperature,
                   const float* x, float b, int64_t dim) {
  if (weights == nullptr) return exact_dot(vectors, x, dim) + static_cast<double>(b);
  double dots[kMaxScoreInterests];
  double largest = 0;
  for (int64_t j = 0; j < num_interests; ++j) {
    dots[j] = exact_dot(vectors + j * dim, x, dim);
    if (j == 0 || dots[j] > largest) largest = dots[j];
  }
  // Relative to the largest, so that no exponential overflows; weights are at least 2^-149, so the sum is never 0.
  double sum = 0;
  for (int64_t j = 0; j < num_interests; ++j) {
    sum += static_cast<double>(weights[j]) * std::exp((dots[j] - largest) / temperature);
  }
  return largest + temperature * std::log(sum) + static_cast<double>(b);
}

}  // namespace lsif
