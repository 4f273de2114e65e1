// The codes of rows and the bounds by which rows are dropped (docs/score_topk.md).
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "score_topk_oracle.h"

namespace {

using namespace score_topk_test;  // NOLINT: what these tests are written in

TEST(codes_stay_within_their_bounds) {
  Random random(8);
  for (const Kind& kind : kinds()) {
    const Catalog catalog(kind.items(random, 50, 33), 33);
    for (int64_t row = 0; row < catalog.num_items; ++row) {
      long double error = 0;
      long double norm = 0;
      const int8_t* codes = catalog.codes.data() + row * code_stride(33);
      for (int64_t i = 0; i < code_stride(33); ++i) {
        const long double coded = static_cast<long double>(catalog.scales[row]) * codes[i];
        const long double x = i < 33 ? catalog.view().vectors[row * 33 + i] : 0.0f;
        error += (x - coded) * (x - coded);
        norm += coded * coded;
        CHECK(codes[i] >= -127);
      }
      CHECK(std::sqrt(error) <= catalog.errors[row]);
      CHECK(std::sqrt(norm) <= catalog.norms[row]);
      // And are no looser than they need be.
      CHECK(catalog.errors[row] <= std::sqrt(error) * 1.00001L + std::numeric_limits<float>::min());
      CHECK(catalog.norms[row] <= std::sqrt(norm) * 1.00001L + std::numeric_limits<float>::min());
    }
  }
}

TEST(rows_whose_norm_is_beyond_float32) {
  Random random(9);
  std::vector<float> rows = normals(random, 700 * 40);
  for (int64_t i = 0; i < 40; ++i) rows[350 * 40 + i] = (i % 2 == 0 ? 3e38f : -3e38f);
  const Catalog catalog(rows, 40);
  CHECK(std::isinf(catalog.norms[350]));
  std::vector<float> queries = normals(random, 2 * 40);
  for (float& q : queries) q *= 1e-3f;
  Question question(queries, 40, 1, 10);
  check_against_brute_force(catalog, question, "huge row");
  // A query whose norm is beyond float32 against rows small enough for its scores.
  std::vector<float> small = normals(random, 700 * 40);
  for (float& x : small) x *= 1e-3f;
  Question huge(std::vector<float>(40, 3e38f), 40, 1, 10);
  check_against_brute_force(Catalog(small, 40), huge, "huge query");
  Question several(normals(random, 2 * 3 * 40), 40, 3, 10);
  for (float& q : several.queries) q *= 1e-3f;
  several.weigh(random);
  check_against_brute_force(catalog, several, "huge row, several interests");
}

// Two rows and one result: row 0, of zeros, whose bias is `bias`, and row 1.
Catalog rival(const std::vector<float>& row, float bias) {
  std::vector<float> rows(row.size());
  rows.insert(rows.end(), row.begin(), row.end());
  return Catalog(rows, static_cast<int64_t>(row.size()), {bias, 0.0f});
}

// Row 1 must win by the smallest step of float32 against row 0.
void check_wins_narrowly(const std::vector<float>& row, Question& question, const char* what) {
  const auto score = static_cast<float>(shared_score(rival(row, 0.0f), question, 0, 1));
  check_against_brute_force(rival(row, std::nextafter(score, -HUGE_VALF)), question, what);
}

// The rounding of the bound, when there is nothing else between it and the score: what the codes miss of the row is
// parallel to the query, so that Cauchy-Schwarz is an equality, and cancels against the product of the codes.
TEST(the_bound_of_a_row_is_above_its_own_rounding) {
  Random random(13);
  std::uniform_real_distribution<float> missed_by(0.2f, 0.499f);
  std::uniform_real_distribution<float> scale_by(0.5f, 2.0f);
  for (int turn = 0; turn < 1000; ++turn) {
    const int64_t dim = 2 + static_cast<int64_t>(random() % 300);
    const float missed = missed_by(random);
    const float scale = turn % 2 == 0 ? 1.0f : scale_by(random);
    const auto num_below = static_cast<int64_t>(missed * static_cast<float>(dim - 1));
    std::vector<float> query(dim, 127.0f);
    std::vector<float> row(dim);
    query[0] = 0;
    row[0] = 127 * scale;  // sets the scale and adds nothing to the score
    for (int64_t i = 1; i < dim; ++i) row[i] = (i <= num_below ? missed - 1 : missed) * scale;
    Question question(query, dim, 1, 1);
    check_wins_narrowly(row, question, "equality in Cauchy-Schwarz");
  }
}

// A huge row, which is far from the best, sets a unit in which the others fall below the normal numbers.
TEST(the_bound_of_a_row_is_above_its_own_underflow) {
  Random random(14);
  constexpr int64_t kDim = 20;
  for (int turn = 0; turn < 300; ++turn) {
    const float size = std::exp2(-static_cast<float>(random() % 40));
    std::vector<float> rows(kDim, -1e20f);
    for (int64_t i = 0; i < 40 * kDim; ++i) rows.push_back(1e-20f * size * normal(random));
    std::vector<float> query(kDim);
    for (float& q : query) q = std::fabs(normal(random));
    Question question(query, kDim, 1, 1 + static_cast<int64_t>(random() % 5));
    check_against_brute_force(Catalog(rows, kDim), question, "underflow");
  }
}

// Logarithms of weights that are far larger than the products, and that the bias cancels.
TEST(the_bound_of_several_interests_is_above_the_rounding_of_its_logarithms) {
  Random random(15);
  for (int turn = 0; turn < 1000; ++turn) {
    const int64_t dim = 1 + static_cast<int64_t>(random() % 20);
    const int64_t num_interests = 1 + turn % 3;
    std::vector<float> row = normals(random, dim);
    Question question(normals(random, num_interests * dim), dim, num_interests, 1);
    question.weigh(random);
    question.request.temperature = std::exp2(static_cast<double>(random() % 40));
    const double log_score = shared_score(rival(row, 0.0f), question, 0, 1);
    std::vector<float> rows(dim);
    rows.insert(rows.end(), row.begin(), row.end());
    Catalog catalog(rows, dim, {0.0f, -static_cast<float>(log_score)});
    const auto score = static_cast<float>(shared_score(catalog, question, 0, 1));
    catalog.bias[0] = std::nextafter(score, -HUGE_VALF) - static_cast<float>(shared_score(catalog, question, 0, 0));
    check_against_brute_force(catalog, question, "large logarithms");
  }
}

}  // namespace
