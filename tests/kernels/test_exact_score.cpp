// The exact score has the same bits with every instruction set: those of its formula, written out.
#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "guarded.h"
#include "score_topk_data.h"
#include "tables.h"

namespace {

using lsif::cpu::KernelTable;
using namespace score_topk_test;  // NOLINT: for brevity in tests

std::vector<int64_t> awkward_dims() {
  std::vector<int64_t> dims;
  for (int64_t dim = 1; dim <= 40; ++dim) dims.push_back(dim);
  dims.insert(dims.end(), {511, 512, 513});
  return dims;
}

// kernels/exact_dot.h: partial sum j adds the products i with i % 8 == j, in order.
double plain_dot(const float* q, const float* x, int64_t dim) {
  double sum[8] = {};
  for (int64_t i = 0; i < dim; ++i) {
    const double product = static_cast<double>(q[i]) * x[i];  // exact, so contraction changes nothing
    sum[i % 8] += product;
  }
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

bool same_bits(double a, double b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

// `count` vectors that end at an unreadable page; if dim is odd, they are not aligned to a vector's size.
guarded::Array<float> random_rows(Random& random, int64_t count, int64_t dim, float scale) {
  guarded::Array<float> rows(count * dim);
  for (int64_t i = 0; i < count * dim; ++i) rows[i] = scale * normal(random) * std::exp(3 * normal(random));
  return rows;
}

TEST(one_interest) {
  Random random(1);
  for (const int64_t dim : awkward_dims()) {
    for (const float scale : {1.0f, 1e20f, 1e-20f}) {
      constexpr int64_t kRows = 5;
      const auto rows = random_rows(random, kRows, dim, scale);
      const auto query = random_rows(random, 1, dim, scale);
      for (int64_t row = 0; row < kRows; ++row) {
        const float* x = rows.data() + row * dim;
        const float bias = row % 2 == 0 ? 0.0f : scale * normal(random);
        const double expected = plain_dot(query.data(), x, dim) + static_cast<double>(bias);
        for (const KernelTable* table : lsif::cpu::tested_kernels()) {
          CHECK(same_bits(table->exact_score(query.data(), nullptr, 1, 1.0, x, bias, dim), expected));
        }
      }
    }
  }
}

// Compared with the scalar kernels, which come last; score_topk_oracle.h checks those against the formula.
TEST(several_interests) {
  Random random(2);
  const KernelTable& scalar = *lsif::cpu::runnable_kernels().back();
  for (const int64_t dim : awkward_dims()) {
    for (const int64_t num_interests : {1, 2, 5, 256}) {
      const auto query = random_rows(random, num_interests, dim, 0.1f);
      const auto row = random_rows(random, 1, dim, 0.1f);
      const auto weights = random_rows(random, 1, num_interests, 1.0f);
      std::vector<float> positive;
      for (int64_t j = 0; j < num_interests; ++j) positive.push_back(std::fabs(weights[j]) + 1e-30f);
      for (const double temperature : {0.05, 1.0, 30.0}) {
        const auto score = [&](const KernelTable& table) {
          return table.exact_score(query.data(), positive.data(), num_interests, temperature, row.data(), 0.5f, dim);
        };
        for (const KernelTable* table : lsif::cpu::tested_kernels()) CHECK(same_bits(score(*table), score(scalar)));
      }
    }
  }
}

}  // namespace
