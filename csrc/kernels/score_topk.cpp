#include "kernels/score_topk.h"

#include <cmath>

namespace lsif {
namespace {

// The products are exact in float64; the order of the additions depends on dim alone. Eight partial sums, so that a
// compiler may use vectors of any width up to eight without changing the order.
double exact_dot(const float* q, const float* x, int64_t dim) {
  constexpr int64_t kSums = 8;
  double sum[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= dim; i += kSums) {
    for (int64_t j = 0; j < kSums; ++j) sum[j] += static_cast<double>(q[i + j]) * static_cast<double>(x[i + j]);
  }
  for (int64_t j = 0; i + j < dim; ++j) sum[j] += static_cast<double>(q[i + j]) * static_cast<double>(x[i + j]);
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

}  // namespace

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
