#include "check.h"
#include "guarded.h"
#include "oracle.h"
#include "tables.h"

namespace {

using guarded::Array;
using guarded::Matrix;
using lsif::Activation;

struct Problem {
  Problem(int64_t num_interests, int64_t dim, int64_t fusion_dim, double scale, oracle::Random& random)
      : interests(num_interests, dim),
        hidden(fusion_dim, num_interests * dim + lsif::kFusionContext),
        hidden_bias(1, fusion_dim),
        logits(num_interests, fusion_dim),
        logits_bias(1, num_interests),
        packed_hidden(lsif::packed_linear_size(hidden.columns(), fusion_dim)),
        packed_logits(lsif::packed_linear_size(fusion_dim, num_interests)) {
    interests.fill([&] { return random.normal(scale); });
    for (Matrix* matrix : {&hidden, &hidden_bias, &logits, &logits_bias})
      matrix->fill([&] { return random.normal(0.4); });
    lsif::pack_linear(hidden.data(), hidden.columns(), fusion_dim, packed_hidden.data());
    lsif::pack_linear(logits.data(), fusion_dim, num_interests, packed_logits.data());
    params = {{packed_hidden.data(), hidden_bias.data(), hidden.columns(), fusion_dim, Activation::kSilu},
              {packed_logits.data(), logits_bias.data(), fusion_dim, num_interests, Activation::kIdentity},
              num_interests,
              dim};
  }
  Matrix interests, hidden, hidden_bias, logits, logits_bias;
  Array<float> packed_hidden, packed_logits;
  lsif::InterestFusionParams params;
};

// 1 - (|sum_j v_j / |v_j||^2 - M) / (M (M - 1)). Each direction has at most dim + M + 6 roundings per component and
// length 1. So the error of the squared sum, which is at most M^2, is at most (2 (dim + M + 6) + dim + 2) M^2
// roundings.
oracle::Approx dispersion(const Matrix& interests) {
  const double m = static_cast<double>(interests.rows());
  const double dim = static_cast<double>(interests.columns());
  if (interests.rows() == 1) return {0, 0};
  std::vector<double> sum(static_cast<size_t>(interests.columns()));
  for (int64_t j = 0; j < interests.rows(); ++j) {
    double norm = 1e-12;
    for (int64_t c = 0; c < interests.columns(); ++c) norm += std::pow(interests.at(j, c), 2);
    for (int64_t c = 0; c < interests.columns(); ++c) sum[c] += interests.at(j, c) / std::sqrt(norm);
  }
  double squared = 0;
  for (double s : sum) squared += s * s;
  const double error = oracle::kUnit * ((2 * (dim + m + 6) + dim + 2) * m * m / (m * (m - 1)) + 6);
  return {1 - (squared - m) / (m * (m - 1)), error};
}

void check_problem(const lsif::cpu::KernelTable& table, const Problem& p, float gap, float length) {
  const int64_t num_interests = p.params.num_interests;
  const int64_t dim = p.params.dim;
  Matrix weights(1, num_interests), fused(1, dim);
  Array<float> scratch(lsif::interest_fusion_scratch_size(p.params));
  table.interest_fusion(p.params, p.interests.data(), gap, length, weights.data(), fused.data(), scratch.data());
  CHECK(weights.gaps_intact());
  CHECK(fused.gaps_intact());
  CHECK(scratch.front_intact());
  auto input = oracle::exact(p.interests.data(), num_interests * dim);
  input.push_back({gap, 0});
  input.push_back({length, 0});
  input.push_back(dispersion(p.interests));
  const auto hidden = oracle::linear(p.hidden.data(), p.hidden_bias.data(), p.hidden.columns(), p.hidden.rows(),
                                     Activation::kSilu, input);
  const auto logits = oracle::linear(p.logits.data(), p.logits_bias.data(), p.logits.columns(), num_interests,
                                     Activation::kIdentity, hidden);
  const auto expected = oracle::softmax(logits, static_cast<double>(num_interests));
  const auto sum = oracle::weighted_sum(expected, p.interests.data(), dim, dim);
  double total = 0;
  for (int64_t j = 0; j < num_interests; ++j) {
    CHECK_NEAR(weights.at(0, j), expected[j].value, expected[j].error);
    total += weights.at(0, j);
  }
  CHECK_NEAR(total, 1.0, static_cast<double>(2 * num_interests + 4) * oracle::kUnit);
  for (int64_t c = 0; c < dim; ++c) CHECK_NEAR(fused.at(0, c), sum[c].value, sum[c].error);
}

TEST(interest_fusion_keeps_the_contract_for_every_shape) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(12);
    for (int64_t num_interests : {1, 2, 3, 7, 8, 16, 17, 33}) {
      for (int64_t dim : {1, 3, 8, 17, 64}) {
        for (int64_t fusion_dim : {1, 16, 65}) {
          const Problem problem(num_interests, dim, fusion_dim, 1, random);
          check_problem(*table, problem, 0.3f, 0.7f);
        }
      }
    }
    // More panels of outputs than warps in a block of threads.
    check_problem(*table, Problem(3, 17, 300, 1, random), 0.3f, 0.7f);
  }
}

TEST(interest_fusion_survives_zero_tiny_and_huge_interests) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(13);
    for (double scale : {0.0, 1e-20, 1e-6, 1e3, 1e6}) {
      const Problem problem(7, 32, 16, scale, random);
      check_problem(*table, problem, 0.0f, 0.0f);
    }
  }
}

}  // namespace
