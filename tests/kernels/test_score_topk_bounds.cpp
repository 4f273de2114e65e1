// The codes of rows, and the bounds that decide which rows are dropped (docs/score_topk.md).
#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(__SSE__)
#include "flushed_denormals.h"
#endif
#include "score_topk_oracle.h"

namespace {

using namespace score_topk_test;  // NOLINT: for brevity in tests

struct DecodedRow {
  std::vector<long double> codes;  // times the scale
  long double error;
  long double bias;
  long double code_norm;  // times the scale
};

DecodedRow decode(const Catalog& catalog, int64_t item) {
  const lsif::CodesView view = catalog.view().codes;
  const uint8_t* group = view.groups + item / lsif::kGroupRows * lsif::group_bytes(catalog.dim);
  const int64_t r = item % lsif::kGroupRows;
  lsif::GroupSide side;
  std::memcpy(&side, group, sizeof(side));
  const auto upper = [](uint16_t half) { return std::bit_cast<float>(static_cast<uint32_t>(half) << 16); };
  const long double scale = static_cast<long double>(side.scale_unit) * side.scales[r];
  DecodedRow row{{},
                 scale * side.errors[r] * upper(side.error_unit),
                 static_cast<long double>(side.bias_base) + static_cast<long double>(side.bias_unit) * side.biases[r],
                 scale * upper(side.code_norm)};
  for (int64_t i = 0; i < catalog.dim; ++i) {
    const uint8_t pair = group[(1 + i / 8) * lsif::kLineBytes + r * 4 + i % 4];
    row.codes.push_back(scale * ((i % 8 < 4 ? pair & 15 : pair >> 4) - lsif::kCodeOffset));
  }
  return row;
}

TEST(codes_stay_within_their_bounds) {
  Random random(8);
  for (const Kind& kind : kinds()) {
    const Catalog catalog(kind.items(random, 50, 33), 33, make_bias(random, 50, kind.bias));
    for (int64_t item = 0; item < catalog.num_items; ++item) {
      const DecodedRow row = decode(catalog, item);
      long double error = 0;
      long double norm = 0;
      for (int64_t i = 0; i < 33; ++i) {
        const long double missed = catalog.view().vectors[item * 33 + i] - row.codes[i];
        error += missed * missed;
        norm += row.codes[i] * row.codes[i];
      }
      CHECK(std::sqrt(error) <= row.error);
      CHECK(std::sqrt(norm) <= row.code_norm);
      CHECK(catalog.bias[item] <= row.bias);
      CHECK(std::sqrt(norm) + row.error <= catalog.view().codes.row_size);
      CHECK(std::fabs(catalog.bias[item]) <= catalog.view().codes.bias_size);
    }
  }
}

TEST(codes_do_not_depend_on_threads) {
  Random random(16);
  const Catalog catalog(normals(random, 70000 * 9), 9, make_bias(random, 70000, 1.0f));
  for (const int threads : {1, 5}) {
    std::vector<uint8_t> codes(catalog.codes.size() - 1);
    lsif::engine::write_codes(catalog.view().vectors, catalog.bias.data(), 70000, 9, {}, codes.data(), threads);
    CHECK(std::equal(codes.begin(), codes.end(), catalog.codes.begin() + 1));
  }
}

TEST(codes_of_something_else_are_refused) {
  Random random(17);
  Catalog catalog(normals(random, 40 * 9), 9);
  const auto size = static_cast<int64_t>(catalog.codes.size()) - 1;
  const auto view = [&](int64_t bytes, int64_t num_items, int64_t dim) {
    lsif::engine::view_codes(catalog.codes.data() + 1, bytes, num_items, dim);
  };
  view(size, 40, 9);
  CHECK_THROWS(view(size - 1, 40, 9), "codes: expected 640 bytes for 40 x 9 vectors, got 639");
  CHECK_THROWS(view(size, 41, 9), "codes: expected those of 41 x 9 vectors, got those of 40 x 9");
  CHECK_THROWS(view(size, 40, 10), "codes: expected those of 40 x 10 vectors, got those of 40 x 9");
  CHECK_THROWS(view(size, 40, 0), "vectors: expected 1 to 65536 dimensions, got 0");
  const auto with_byte = [&](int64_t position, uint8_t value) {
    const uint8_t before = std::exchange(catalog.codes[1 + position], value);
    std::string message;
    try {
      view(size, 40, 9);
    } catch (const std::invalid_argument& error) {
      message = error.what();
    }
    catalog.codes[1 + position] = before;
    return message;
  };
  CHECK(with_byte(0, 'L') == "codes: expected codes of a catalogue, got other bytes");
  CHECK(with_byte(8, 2) == "codes: expected 1216 bytes for 40 x 9 vectors, got 640");
  CHECK(with_byte(8, 3) == "codes: expected version 1 or 2, got 3");
  CHECK(with_byte(15, 0xff).starts_with("codes: expected finite sizes, got row_size -"));
  CHECK(with_byte(35, 0xff).ends_with("bias_size -170141183460469231731687303715884105728.000000"));
}

TEST(rows_whose_norm_is_beyond_float32) {
  Random random(9);
  std::vector<float> rows = normals(random, 700 * 40);
  for (int64_t i = 0; i < 40; ++i) rows[350 * 40 + i] = (i % 2 == 0 ? 3e38f : -3e38f);
  const Catalog catalog(rows, 40);
  CHECK(std::isinf(decode(catalog, 350).bias));
  CHECK(!std::isinf(decode(catalog, 349 / 16 * 16 - 1).bias));
  std::vector<float> queries = normals(random, 2 * 40);
  for (float& q : queries) q *= 1e-3f;
  Question question(queries, 40, 1, 10);
  check_against_brute_force(catalog, question, "huge row");
  // A query whose norm exceeds float32, with rows small enough for its scores not to.
  std::vector<float> small = normals(random, 700 * 40);
  for (float& x : small) x *= 1e-3f;
  Question huge(std::vector<float>(40, 3e38f), 40, 1, 10);
  check_against_brute_force(Catalog(small, 40), huge, "huge query");
  Question several(normals(random, 2 * 3 * 40), 40, 3, 10);
  for (float& q : several.queries) q *= 1e-3f;
  several.weigh(random);
  check_against_brute_force(catalog, several, "huge row, several interests");
}

// Only the rounding of the bound lies between it and the score: row and query equal their own codes, their product is
// an odd integer above 2^24, and the bias cancels its leading digits. The last row must win by the smallest step of
// float32 against rows of another group.
TEST(the_bound_of_a_row_is_above_its_own_rounding) {
  constexpr int64_t kDim = 19000;
  Random random(13);
  for (int turn = 0; turn < 40; ++turn) {
    std::vector<float> query(kDim, 127.0f);
    for (int64_t i = 0; i < 50; ++i) query[i] = static_cast<float>(static_cast<int64_t>(random() % 255) - 127);
    std::vector<float> rows(lsif::kGroupRows * kDim);
    rows.insert(rows.end(), kDim, 7.0f);
    std::vector<float> bias(lsif::kGroupRows + 1, -0x1p24f);
    Question question(query, kDim, 1, 1);
    const auto score = static_cast<float>(shared_score(Catalog(rows, kDim, bias), question, 0, lsif::kGroupRows));
    std::fill(bias.begin(), bias.end() - 1, std::nextafter(score, -HUGE_VALF));
    check_against_brute_force(Catalog(rows, kDim, bias), question, "rounding");
  }
}

// A huge row, far from the best, sets a unit in which the other rows become subnormal.
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

// Logarithms of weights are far larger than the products, and the bias cancels them.
TEST(the_bound_of_several_interests_is_above_the_rounding_of_its_logarithms) {
  Random random(15);
  for (int turn = 0; turn < 1000; ++turn) {
    const int64_t dim = 1 + static_cast<int64_t>(random() % 20);
    const int64_t num_interests = 1 + turn % 3;
    std::vector<float> row = normals(random, dim);
    Question question(normals(random, num_interests * dim), dim, num_interests, 1);
    question.weigh(random);
    question.request.temperature = std::exp2(static_cast<double>(random() % 40));
    const double log_score = shared_score(Catalog(row, dim), question, 0, 0);
    std::vector<float> rows(dim);
    rows.insert(rows.end(), row.begin(), row.end());
    const Catalog alone(rows, dim, {0.0f, -static_cast<float>(log_score)});
    const auto score = static_cast<float>(shared_score(alone, question, 0, 1));
    const float rivals = std::nextafter(score, -HUGE_VALF) - static_cast<float>(shared_score(alone, question, 0, 0));
    const Catalog catalog(rows, dim, {rivals, -static_cast<float>(log_score)});
    check_against_brute_force(catalog, question, "large logarithms");
  }
}

// Ordered such that the last slots are scanned when there is a threshold, with exponentials compared with it.
Catalog last_slot_first(const std::vector<float>& rows, int64_t dim, const std::vector<float>& bias) {
  Catalog catalog(rows, dim, bias);
  std::vector<int32_t> order(catalog.num_items);
  for (int64_t slot = 0; slot < catalog.num_items; ++slot) order[slot] = static_cast<int32_t>(order.size() - 1 - slot);
  catalog.code(order);
  return catalog;
}

// A row that equals its own codes must win by the smallest step of float32 against enough rows to give a threshold.
TEST(exponentials_of_several_interests_are_above_their_rounding) {
  Random random(19);
  for (int turn = 0; turn < 1000; ++turn) {
    const int64_t dim = 1 + static_cast<int64_t>(random() % 12);
    const int64_t num_interests = 2 + turn % 9;
    std::vector<float> queries;
    for (int64_t i = 0; i < num_interests * dim; ++i) {
      queries.push_back(i % dim == 0 ? 127.0f : static_cast<float>(static_cast<int64_t>(random() % 255) - 127));
    }
    std::vector<float> rows;
    for (int64_t i = 0; i < dim; ++i) rows.push_back(i == 0 ? 7.0f : static_cast<float>(random() % 15) - 7.0f);
    rows.resize(500 * dim);
    std::vector<float> bias(500);
    Question question(queries, dim, num_interests, 1);
    question.weigh(random);
    question.request.temperature = std::exp2(4 + static_cast<double>(random() % 16));
    const Catalog unbiased(rows, dim, bias);
    bias[0] = -static_cast<float>(shared_score(unbiased, question, 0, 0));
    const auto score = static_cast<float>(shared_score(Catalog(rows, dim, bias), question, 0, 0));
    const auto rival = static_cast<float>(shared_score(unbiased, question, 0, 499));
    for (size_t i = 1; i < bias.size(); ++i) bias[i] = std::nextafter(score, -HUGE_VALF) - rival;
    for (size_t i = 1; i < 300; ++i) bias[i] -= 1;
    check_against_brute_force(last_slot_first(rows, dim, bias), question, "exponentials");
  }
}

#if defined(__SSE__)
// The last row is the best because of an interest whose share of the weights, 2^-127, counts as 0 when flushed.
TEST(shares_below_the_normal_numbers_count_where_they_are_flushed) {
  std::vector<float> rows;
  for (int64_t i = 0; i < 499; ++i) rows.insert(rows.end(), {1.0f, 0.0f});
  rows.insert(rows.end(), {0.0f, 89.25f});  // equals its own codes; exp(88.25) < 2^128 < exp(89.25)
  const Catalog catalog(rows, 2);
  Question question({1.0f, 0.0f, 0.0f, 1.0f}, 2, 2, 1);
  question.weights = {0x1p60f, 0x1p-67f};
  check_against_brute_force(catalog, question, "tiny share");
  for (const KernelTable* table : lsif::cpu::tested_kernels()) {
    const FlushedDenormals flushed;
    CHECK(run(catalog, question, *table).indices.front() == 499);
  }
}
#endif

// The first rows score less than the last by an amount lost in the rounding to the bias, so that row 0 wins the tie.
TEST(exponentials_of_several_interests_are_above_the_rounding_of_scores) {
  std::vector<float> rows(500, 1.0f);
  std::fill(rows.begin(), rows.begin() + 300, 0.75f);
  Question question({1.0f, 1.0f}, 1, 2, 1);
  question.weights = {0.5f, 0.5f};
  question.request.temperature = 0.01;
  for (const float bias : {0x1p22f, -0x1p22f}) {
    check_against_brute_force(last_slot_first(rows, 1, std::vector<float>(500, bias)), question, "rounding of scores");
  }
}

// The error of float32 scores is computed from the catalogue's largest row, which excludes rows whose norm exceeds
// float32. Here the products of such rows cancel except for their last digits.
TEST(rows_beyond_float32_are_larger_than_the_largest) {
  constexpr int64_t kDim = 64;
  Random random(51);
  std::vector<float> rows = scaled(1e30f)(random, 2000, kDim);
  for (int64_t row = 0; row < 2000; row += 5) {
    for (int64_t i = 0; i < kDim; i += 2) {
      const float x = 1e38f * std::clamp(normal(random), -3.0f, 3.0f);
      rows[row * kDim + i] = x;
      rows[row * kDim + i + 1] = -x * (1 + 1e-6f * normal(random));
    }
  }
  const Catalog catalog(rows, kDim);
  for (const int64_t k : {1, 5, 30}) {
    Question question(std::vector<float>(3 * kDim, 1e-37f), kDim, 1, k);
    check_against_brute_force(catalog, question, "rows beyond float32");
  }
}

// Rows hidden by huge biases share groups with rows whose biases are negligible in comparison.
TEST(rows_hidden_by_their_biases_do_not_hide_others) {
  Random random(52);
  for (const float hidden : {-1e6f, -1e12f, -1e17f, -1e18f, -1e19f, -1e25f, -3e38f, -FLT_MAX, 1e18f}) {
    for (const int64_t num_items : {40, 5000}) {
      std::vector<float> bias = make_bias(random, num_items, 1.0f);
      for (int64_t row = 3; row < num_items; row += 37) bias[row] = hidden;
      const Catalog catalog(scaled(0.3f)(random, num_items, 8), 8, bias);
      for (const int64_t k : {1, 10}) {
        Question question(normals(random, 9 * 8), 8, 1, k);
        check_against_brute_force(catalog, question, "hidden by bias");
      }
    }
  }
}

// In float32 the first rows' products are below half a step of the bias, exactly they are above: they score as much as
// the last ones, and win by their row numbers.
TEST(scores_in_float32_are_off_by_a_step_of_the_bias) {
  std::vector<float> rows;
  for (int64_t row = 0; row < 400; ++row)
    rows.insert(rows.end(), {row < 200 ? 1.0f : 2.0f, row < 200 ? 0x1p-25f : 0.0f});
  const Catalog catalog = last_slot_first(rows, 2, std::vector<float>(400, 0x1p24f));
  for (const int64_t k : {1, 10, 60}) {
    Question question({1.0f, 1.0f}, 2, 1, k);
    check_against_brute_force(catalog, question, "a step of the bias");
  }
}

}  // namespace
