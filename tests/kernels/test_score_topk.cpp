// The best rows, bit for bit, for every kind of data and at every size.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "score_topk_oracle.h"

namespace {

using namespace score_topk_test;  // NOLINT: for brevity in tests

constexpr int64_t kDims[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 200, 512};
constexpr int64_t kCounts[] = {1, 2, 10, 100, 1000};

TEST(every_kind_in_every_dimension) {
  Random random(1);
  const int64_t sizes[] = {1024, 5000, 1023, 300, 1025, 31};
  int turn = 0;
  for (const Kind& kind : kinds()) {
    for (const int64_t dim : kDims) {
      const int64_t num_items = dim > 128 ? 600 : sizes[turn % 6];
      const bool has_bias = turn % 2 == 0 && kind.bias > 0;
      const Catalog catalog(kind.items(random, num_items, dim), dim,
                            has_bias ? make_bias(random, num_items, kind.bias) : std::vector<float>());
      Question question(kind.queries(random, 3, dim), dim, 1, kCounts[turn % 5]);
      if (turn % 3 == 0) question.exclude(random, num_items);
      check_against_brute_force(catalog, question, kind.name);
      ++turn;
    }
  }
}

TEST(every_size_with_every_k) {
  Random random(2);
  for (const int64_t k : kCounts) {
    for (const int64_t num_items :
         {int64_t{0}, int64_t{1}, int64_t{2}, k - 1, k, k + 1, int64_t{1023}, int64_t{1024}, int64_t{1025}}) {
      for (const bool duplicates : {false, true}) {
        const Catalog catalog(duplicates ? make_duplicates(random, num_items, 17) : normals(random, num_items * 17), 17,
                              make_bias(random, num_items, duplicates ? 0.0f : 1.0f));
        Question question(normals(random, 5 * 17), 17, 1, k);
        check_against_brute_force(catalog, question, "sizes");
        if (num_items == 0) continue;
        question.exclude(random, num_items);
        check_against_brute_force(catalog, question, "sizes, excluded");
      }
    }
  }
}

TEST(several_interests) {
  Random random(3);
  int turn = 0;
  for (const Kind& kind : kinds()) {
    for (int64_t num_interests = 1; num_interests <= 8; ++num_interests) {
      const int64_t dim = kDims[turn % 15];
      const int64_t num_items = turn % 4 == 0 ? 1025 : 200;
      const bool has_bias = turn % 2 == 0 && kind.bias > 0;
      const Catalog catalog(kind.items(random, num_items, dim), dim,
                            has_bias ? make_bias(random, num_items, kind.bias) : std::vector<float>());
      Question question(kind.queries(random, 3 * num_interests, dim), dim, num_interests, kCounts[turn % 3]);
      question.weigh(random);
      const double temperatures[] = {1.0, 0.05, 1e-6, 30.0, 1e-30, 1e6};
      question.request.temperature = temperatures[turn % 6];
      if (turn % 3 == 0) question.exclude(random, num_items);
      check_against_brute_force(catalog, question, kind.name);
      ++turn;
    }
  }
}

TEST(an_interest_of_weight_zero_takes_no_part) {
  Random random(4);
  const Catalog catalog(normals(random, 500 * 16), 16);
  Question two(normals(random, 2 * 16), 16, 2, 10);
  two.weights = {1.0f, 0.0f};
  Question one(std::vector<float>(two.queries.begin(), two.queries.begin() + 16), 16, 1, 10);
  for (const KernelTable* table : lsif::cpu::tested_kernels()) {
    const Result expected = run(catalog, one, *table);
    CHECK(run(catalog, two, *table) == expected);
  }
}

TEST(many_dimensions) {
  Random random(12);
  for (const int64_t dim : {1500, 65536}) {
    const int64_t num_items = dim > 10000 ? 40 : 300;
    for (const Maker& make : {Maker(make_integers), scaled(1), constant(-127.0f)}) {
      const Catalog catalog(make(random, num_items, dim), dim, make_bias(random, num_items, 1.0f));
      Question question(make(random, 5, dim), dim, 1, 7);
      check_against_brute_force(catalog, question, "many dimensions");
    }
  }
}

// A large component that queries do not have makes the errors of all codes large. After some rows, nearly all of which
// wait, the rest are scored for all queries together (topk_unordered.inl.h).
std::vector<float> with_large_component(std::vector<float> rows, int64_t dim, float size) {
  for (size_t i = 0; i < rows.size(); i += dim) rows[i] = size;
  return rows;
}

TEST(bounds_that_hold_nothing_back) {
  Random random(14);
  const struct {
    int64_t dim;
    int64_t num_items;
    int64_t batch;  // in the case of 37, the last 5 are too few to score together
  } cases[] = {{2, 16385, 21}, {9, 4097, 6}, {33, 5003, 37}, {64, 8192, 16}, {130, 4999, 20}};
  for (const auto& [dim, num_items, batch] : cases) {
    const Catalog catalog(with_large_component(normals(random, num_items * dim), dim, 1000.0f), dim,
                          make_bias(random, num_items, 0.1f));
    for (const int64_t k : {1, 10, 150}) {
      Question question(with_large_component(normals(random, batch * dim), dim, 0.0f), dim, 1, k);
      check_against_brute_force(catalog, question, "together");
      question.exclude(random, 300);
      if (k == 10) question.allow(random, num_items);
      question.request.threads = k == 150 ? 2 : 1;
      check_against_brute_force(catalog, question, "together, some left out");
    }
  }
}

// Where float32 errs by more than rows differ, only its error bound keeps rows; where it overflows, none is dropped.
TEST(what_float32_cannot_tell_for_many_queries) {
  Random random(16);
  constexpr int64_t kItems = 6000;
  constexpr int64_t kDim = 24;
  constexpr int64_t kBatch = 22;
  std::vector<float> rows = normals(random, kItems * kDim);
  std::vector<float> endless = rows;
  std::vector<float> queries = normals(random, kBatch * kDim);
  std::vector<float> pairs = queries;
  for (int64_t row = 0; row < kItems; ++row) {
    rows[row * kDim] = 0x1p22f;
    rows[row * kDim + kDim - 1] = -0x1p22f;
    for (int64_t i = 0; i < kDim; ++i) {
      float& x = endless[row * kDim + i];
      x = row % 8 == 7 ? (i % 2 == 0 ? 3e38f : -3e38f) * (1 - 1e-6f * std::fabs(x)) : 1e-6f * x;
    }
  }
  for (int64_t user = 0; user < kBatch; ++user) {
    queries[user * kDim] = queries[user * kDim + kDim - 1] = 1;
    for (int64_t i = 0; i < kDim; i += 2) pairs[user * kDim + i] = pairs[user * kDim + i + 1] *= 1e-3f;
  }
  Question question(queries, kDim, 1, 10);
  check_against_brute_force(Catalog(rows, kDim), question, "large numbers that cancel");
  question.queries = pairs;
  check_against_brute_force(Catalog(endless, kDim), question, "rows beyond float32");
}

// A user who may get only rows of the second half has no threshold while the others' rows are scored together.
TEST(a_filter_of_one_of_many_queries) {
  Random random(17);
  constexpr int64_t kItems = 40000;
  constexpr int64_t kDim = 9;
  const Catalog catalog(with_large_component(normals(random, kItems * kDim), kDim, 1000.0f), kDim);
  for (const int threads : {1, 2}) {  // with two there are two ranges of rows
    Question question(with_large_component(normals(random, 16 * kDim), kDim, 0.0f), kDim, 1, 10);
    question.request.threads = threads;
    question.allowed.resize(16);
    question.allowed[3].assign((kItems + 63) / 64, 0);
    std::fill(question.allowed[3].begin() + kItems / 128, question.allowed[3].end(), ~uint64_t{0});
    check_against_brute_force(catalog, question, "one filter");
  }
}

TEST(every_kind_of_rows_for_many_queries) {
  Random random(15);
  constexpr int64_t kItems = 6000;
  constexpr int64_t kDim = 17;
  for (const Kind& kind : kinds()) {
    const Catalog catalog(kind.items(random, kItems, kDim), kDim, make_bias(random, kItems, kind.bias));
    Question question(kind.queries(random, 22, kDim), kDim, 1, 10);
    question.exclude(random, 300);
    check_against_brute_force(catalog, question, kind.name);
  }
}

TEST(two_hundred_thousand_rows) {
  Random random(6);
  constexpr int64_t kItems = 200000;
  const Catalog catalog(normals(random, kItems * 16), 16, make_bias(random, kItems, 0.5f));
  for (const int threads : {1, 2}) {
    Question question(normals(random, 2 * 16), 16, 1, 1000);
    question.request.threads = threads;
    check_against_brute_force(catalog, question, "many rows");
  }
}

TEST(scores_beyond_float32_are_refused) {
  Random random(11);
  std::vector<float> rows = normals(random, 2000 * 8);
  for (float& x : rows) x *= 1e20f;
  std::vector<float> queries(8, 1e20f);
  const Catalog catalog(rows, 8);
  for (const KernelTable* table : lsif::cpu::tested_kernels()) {
    Question question(queries, 8, 1, 5);
    CHECK_THROWS(run(catalog, question, *table), "scores within float32");
  }
  // Scores of rows far below the k best may overflow: these rows are not returned.
  std::vector<float> some = normals(random, 2000 * 8);
  for (int64_t row = 0; row < 2000; row += 2) {
    for (int64_t i = 0; i < 8; ++i) some[row * 8 + i] = -1e20f * std::fabs(some[row * 8 + i]);
  }
  Question question(queries, 8, 1, 500);
  check_against_brute_force(Catalog(some, 8), question, "overflow below");
}

}  // namespace
