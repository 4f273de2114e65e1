// Scans region by region, and scans of parts of a catalogue, for codes sorted by length (docs/score_topk.md, "Cells").
#include <algorithm>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "engine/interests.h"
#include "kernels/exact_dot.h"
#include "score_topk_oracle.h"

namespace {

using namespace score_topk_test;  // NOLINT: for brevity in tests

constexpr int64_t kDim = 24;

std::vector<int32_t> longest_first(const Catalog& catalog) {
  std::vector<double> lengths(catalog.num_items);
  for (int64_t row = 0; row < catalog.num_items; ++row) {
    const float* x = catalog.view().vectors + row * catalog.dim;
    lengths[row] = lsif::exact_dot(x, x, catalog.dim);
  }
  std::vector<int32_t> order(catalog.num_items);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return lengths[a] > lengths[b]; });
  return order;
}

Catalog by_length(const Catalog& plain) {
  Catalog catalog = plain;
  catalog.code(longest_first(plain), true);
  CHECK(catalog.view().codes.by_length);
  return catalog;
}

TEST(rows_in_no_clusters_are_ordered_by_length) {
  Random random(41);
  const Catalog catalog(make_long_and_short(random, 30000, 64), 64);
  for (const int threads : {1, 4}) {
    const auto order = lsif::engine::order_rows(catalog.view().vectors, nullptr, 30000, 64,
                                                lsif::engine::Ordering::kWherePaying, threads);
    CHECK(order.by_length);
    CHECK(order.rows == longest_first(catalog));
  }
}

// Queries scanned together stop needing regions one after another; all-zero queries need all regions.
TEST(queries_that_leave_a_scan_before_its_end) {
  Random random(42);
  constexpr int64_t kNumItems = 12345;
  constexpr int64_t kBatch = 40;
  const Catalog plain(make_long_and_short(random, kNumItems, kDim), kDim, make_bias(random, kNumItems, 0.1f));
  const Catalog ordered = by_length(plain);
  for (const int64_t num_interests : {1, 2}) {
    std::vector<float> queries = make_long_and_short(random, kBatch * num_interests, kDim);
    const int64_t size = num_interests * kDim;
    for (int64_t user = 0; user < kBatch; user += 5) std::fill_n(queries.begin() + user * size, size, 0.0f);
    for (const int64_t k : {1, 10, 500}) {
      Question question(queries, kDim, num_interests, k);
      if (num_interests > 1) question.weigh(random);
      question.exclude(random, 300);
      if (k == 10) question.allow(random, kNumItems);
      const Result expected = brute_force(plain, question);
      for (const KernelTable* table : lsif::cpu::tested_kernels()) CHECK(run(ordered, question, *table) == expected);
    }
  }
}

// A single query, which scans the codes as a stream.
TEST(single_queries) {
  Random random(43);
  const Catalog plain(make_long_and_short(random, 30001, kDim), kDim);
  const Catalog ordered = by_length(plain);
  for (const int64_t k : {1, 30, 2000, 20000}) {  // the last is more than the rows that may wait
    Question question(make_long_and_short(random, 1, kDim), kDim, 1, k);
    const Result expected = brute_force(plain, question);
    for (const KernelTable* table : lsif::cpu::tested_kernels()) CHECK(run(ordered, question, *table) == expected);
  }
}

// The best rows from parts of a catalogue that are scanned one after another, from the last or from the first, and
// share their known scores.
Result run_in_parts(const Catalog& catalog, Question& question, const KernelTable& table, bool from_last) {
  const auto& request = question.get();
  const lsif::CatalogView view = catalog.view();
  lsif::engine::Scratch kept;
  lsif::engine::Interests interests(request, catalog.dim, kept);
  interests.code(kept);
  std::vector<float> known(request.batch, -std::numeric_limits<float>::infinity());
  std::vector<std::vector<ScoredItem>> found(request.batch);
  const int64_t num_vectors = interests.size();
  const int64_t size = lsif::score_topk_scratch_size(view, request.batch, num_vectors, request.k);
  std::vector<uint8_t> memory(size + lsif::kLineBytes);
  void* scratch = memory.data();
  size_t space = memory.size();
  std::align(lsif::kLineBytes, size, scratch, space);
  const int64_t num_parts = lsif::divide_up(view.num_items, lsif::kRangeRows);
  for (int64_t turn = 0; turn < num_parts; ++turn) {
    const int64_t part = from_last ? num_parts - 1 - turn : turn;
    std::vector<ScoredItem> best(request.batch * request.k);
    std::vector<lsif::TopkQuery> queries;
    for (int64_t user = 0; user < request.batch; ++user) {
      queries.push_back(interests.topk_query(user));
      queries.back().exclude = nullptr;
      queries.back().num_exclude = 0;
      queries.back().allowed = nullptr;
      queries.back().best = best.data() + user * request.k;
      queries.back().k = request.k;
      queries.back().error_share = 1;
      queries.back().known_score = known.data() + user;
    }
    const int64_t first = part * lsif::kRangeRows;
    table.score_topk(view, first, std::min(view.num_items, first + lsif::kRangeRows), queries.data(), request.batch,
                     scratch);
    for (int64_t user = 0; user < request.batch; ++user) {
      found[user].insert(found[user].end(), queries[user].best, queries[user].best + queries[user].num_best);
    }
  }
  Result result = room_for(request);
  for (int64_t user = 0; user < request.batch; ++user) {
    std::sort(found[user].begin(), found[user].end(), lsif::engine::is_better);
    CHECK(static_cast<int64_t>(found[user].size()) >= request.k);
    for (int64_t i = 0; i < request.k; ++i) {
      result.scores[user * request.k + i] = found[user][i].score;
      result.indices[user * request.k + i] = found[user][i].item;
    }
    result.counts[user] = request.k;
  }
  return result;
}

TEST(parts_of_a_catalogue_that_tell_each_other) {
  Random random(44);
  constexpr int64_t kNumItems = 3 * lsif::kRangeRows + 300;
  const Catalog clustered(make_clustered(random, kNumItems, kDim), kDim, make_bias(random, kNumItems, 0.1f));
  const Catalog spread(make_long_and_short(random, kNumItems, kDim), kDim, make_bias(random, kNumItems, 0.1f));
  for (const int64_t num_interests : {1, 2}) {
    Question question(make_long_and_short(random, 9 * num_interests, kDim), kDim, num_interests, 10);
    if (num_interests > 1) question.weigh(random);
    for (const Catalog& plain : {clustered, spread}) {
      const Result expected = brute_force(plain, question);
      Catalog backwards = plain;
      std::vector<int32_t> order = longest_first(plain);
      std::reverse(order.begin(), order.end());
      backwards.code(order);
      for (const Catalog& catalog : {plain, plain.ordered(), backwards, by_length(plain)}) {
        for (const KernelTable* table : lsif::cpu::tested_kernels()) {
          for (const bool from_last : {true, false}) {
            CHECK(run_in_parts(catalog, question, *table, from_last) == expected);
          }
        }
      }
    }
  }
}

// Threads scan ranges of rows at the same time.
TEST(threads_share_a_catalogue_by_length) {
  Random random(46);
  const Catalog plain(make_long_and_short(random, 50000, kDim), kDim);
  const Catalog ordered = by_length(plain);
  for (const int64_t batch : {1, 3, 8}) {
    Question question(make_long_and_short(random, batch, kDim), kDim, 1, 10);
    const Result expected = run(plain, question, *lsif::cpu::tested_kernels().front());
    question.request.threads = 3;
    for (const KernelTable* table : lsif::cpu::tested_kernels()) CHECK(run(ordered, question, *table) == expected);
  }
}

// With error_share < 1 rows may be missed, but those found are as many, have exact scores and are in order.
TEST(approximate_searches_by_length) {
  Random random(47);
  const Catalog plain(make_long_and_short(random, 30000, kDim), kDim);
  const Catalog ordered = by_length(plain);
  Question question(make_long_and_short(random, 30, kDim), kDim, 1, 10);
  for (const KernelTable* table : lsif::cpu::tested_kernels()) {
    const Result exact = run(plain, question, *table);
    int64_t num_missed = 0;
    for (const float share : {0.0f, 0.4f, 0.8f}) {
      question.request.error_share = share;
      const Result found = run(ordered, question, *table);
      CHECK(found.counts == exact.counts);
      for (int64_t i = 0; i < static_cast<int64_t>(found.scores.size()); ++i) {
        const int64_t user = i / 10;
        CHECK(found.scores[i] == static_cast<float>(shared_score(plain, question, user, found.indices[i])));
        CHECK(i % 10 == 0 || lsif::engine::is_better({found.scores[i - 1], found.indices[i - 1]},
                                                     {found.scores[i], found.indices[i]}));
        num_missed += found.indices[i] == exact.indices[i] ? 0 : 1;
      }
    }
    question.request.error_share = 1;
    CHECK(num_missed > 0);
  }
}

// New rows come last, whatever their length.
TEST(longer_rows_that_come_later) {
  Random random(45);
  constexpr int64_t kOld = 9000;
  const Catalog old = by_length(Catalog(make_long_and_short(random, kOld, kDim), kDim));
  Catalog catalog = old;
  std::vector<float> rows = make_long_and_short(random, 700, kDim);
  for (float& value : rows) value *= 3;
  catalog.vectors.insert(catalog.vectors.end(), rows.begin(), rows.end());
  catalog.num_items += 700;
  catalog.codes.assign(1 + lsif::engine::codes_size(catalog.num_items, kDim, true), 0);
  lsif::engine::update_codes({old.codes.data() + 1, static_cast<int64_t>(old.codes.size()) - 1, kOld},
                             catalog.vectors.data() + 1, nullptr, catalog.num_items, kDim, nullptr, 0,
                             catalog.codes.data() + 1, 2);
  CHECK(catalog.view().codes.by_length);
  Question question(make_long_and_short(random, 6, kDim), kDim, 1, 20);
  check_against_brute_force(catalog, question, "longer rows");
}

}  // namespace
