// Codes whose rows have an order: cells, regions, and searches that skip them (docs/score_topk.md, "Cells").
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "score_topk_oracle.h"

namespace {

using namespace score_topk_test;  // NOLINT: for brevity in tests
using lsif::engine::Ordering;

lsif::engine::RowOrder order_of(const Catalog& catalog, Ordering ordering, int threads = 1) {
  return lsif::engine::order_rows(catalog.vectors.data() + 1, catalog.biases(), catalog.num_items, catalog.dim,
                                  ordering, threads);
}

std::vector<int32_t> shuffled(Random& random, int64_t num_items) {
  std::vector<int32_t> order(num_items);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  return order;
}

// In long double: rows [first, last) of the order are within the bounds of the cell or region at `place`.
void check_bounds(const Catalog& catalog, const std::vector<int32_t>& order, const uint8_t* groups, int64_t place,
                  int64_t first, int64_t last) {
  const uint8_t* group = groups + place / lsif::kGroupRows * lsif::group_bytes(catalog.dim);
  const int64_t r = place % lsif::kGroupRows;
  lsif::GroupSide side;
  std::memcpy(&side, group, sizeof(side));
  if (std::isinf(side.bias_base)) return;
  const auto upper = [](uint16_t half) { return std::bit_cast<float>(static_cast<uint32_t>(half) << 16); };
  const long double scale = static_cast<long double>(side.scale_unit) * side.scales[r];
  const long double error = scale * side.errors[r] * upper(side.error_unit);
  const long double bias =
      static_cast<long double>(side.bias_base) + static_cast<long double>(side.bias_unit) * side.biases[r];
  for (int64_t slot = first; slot < last; ++slot) {
    const float* x = catalog.view().vectors + order[slot] * catalog.dim;
    long double missed = 0;
    long double norm = 0;
    for (int64_t i = 0; i < catalog.dim; ++i) {
      const uint8_t pair = group[(1 + i / 8) * lsif::kLineBytes + r * 4 + i % 4];
      const long double code = scale * ((i % 8 < 4 ? pair & 15 : pair >> 4) - lsif::kCodeOffset);
      missed += (x[i] - code) * (x[i] - code);
      norm += code * code;
    }
    CHECK(std::sqrt(norm) <= scale * upper(side.code_norm));
    CHECK(std::sqrt(norm) + error <= catalog.view().codes.row_size);
    CHECK(std::sqrt(missed) <= error);
    if (!catalog.bias.empty()) CHECK(catalog.bias[order[slot]] <= bias);
  }
}

TEST(rows_are_within_the_bounds_of_their_cell_and_region) {
  Random random(31);
  for (const Kind& kind : kinds()) {
    for (const int64_t num_items : {1, 50, 300, 4500}) {
      Catalog catalog(kind.items(random, num_items, 9), 9, make_bias(random, num_items, kind.bias));
      const std::vector<int32_t> order = shuffled(random, num_items);
      catalog.code(order);
      const lsif::CodesView codes = catalog.view().codes;
      for (int64_t slot = 0; slot < num_items; ++slot) {
        check_bounds(catalog, order, codes.cells, slot / lsif::kCellRows, slot, slot + 1);
        check_bounds(catalog, order, codes.regions, slot / lsif::kRegionRows, slot, slot + 1);
      }
    }
  }
}

// Any order gives the same results, even one that groups unrelated rows.
TEST(any_order_gives_the_same_results) {
  Random random(32);
  int turn = 0;
  for (const Kind& kind : kinds()) {
    const int64_t num_items = turn % 2 == 0 ? 700 : 5000;
    Catalog catalog(kind.items(random, num_items, 12), 12, make_bias(random, num_items, kind.bias));
    for (const int64_t num_interests : {1, 2}) {
      Question question(kind.queries(random, 8 * num_interests, 12), 12, num_interests, 1 + turn % 30);
      if (num_interests > 1) question.weigh(random);
      question.exclude(random, num_items);
      question.allow(random, num_items);
      catalog.code({});
      const Result expected = brute_force(catalog, question);
      for (const bool by_length : {false, true}) {
        catalog.code(shuffled(random, num_items), by_length);
        for (const KernelTable* table : lsif::cpu::tested_kernels()) {
          CHECK(run(catalog, question, *table) == expected);
        }
      }
    }
    ++turn;
  }
}

// A batch in which some queries need few regions and others need all; the first queries are not among the latter.
TEST(queries_that_need_everything_beside_others) {
  Random random(33);
  constexpr int64_t kDim = 24;
  constexpr int64_t kBatch = 70;
  const Catalog plain(make_clustered(random, 40000, kDim), kDim, make_bias(random, 40000, 0.1f));
  const Catalog ordered = plain.ordered();
  CHECK(ordered.view().codes.order != nullptr);
  std::vector<float> queries;
  for (int64_t user = 0; user < kBatch; ++user) {
    const int64_t item = static_cast<int64_t>(random() % 40000);
    for (int64_t i = 0; i < kDim; ++i) {
      queries.push_back(user % 3 == 0 ? plain.view().vectors[item * kDim + i] : user % 3 == 1 ? normal(random) : 0.0f);
    }
  }
  for (const int64_t num_interests : {1, 2}) {
    for (const int64_t k : {1, 10, 900}) {
      Question all(queries, kDim, num_interests, k);
      if (num_interests > 1) all.weigh(random);
      all.exclude(random, 300);
      for (const KernelTable* table : lsif::cpu::tested_kernels()) {
        all.request.threads = 1;
        const Result expected = run(plain, all, *table);
        for (const int threads : {1, 3}) {
          all.request.threads = threads;
          CHECK(run(ordered, all, *table) == expected);
        }
      }
    }
  }
}

// With error_share < 1 rows may be missed, but those found are as many, have exact scores and are in order.
TEST(approximate_results_are_exact_but_for_what_they_miss) {
  Random random(38);
  constexpr int64_t kDim = 16;
  const Catalog catalog = Catalog(make_clustered(random, 20000, kDim), kDim, make_bias(random, 20000, 0.1f)).ordered();
  for (const int64_t num_interests : {1, 3}) {
    Question question(make_clustered(random, 40 * num_interests, kDim), kDim, num_interests, 10);
    if (num_interests > 1) question.weigh(random);
    question.exclude(random, 20000);
    for (const KernelTable* table : lsif::cpu::tested_kernels()) {
      const Result exact = run(catalog, question, *table);
      int64_t num_missed = 0;
      for (const float share : {0.0f, 0.4f, 1.0f}) {
        question.request.error_share = share;
        const Result found = run(catalog, question, *table);
        question.request.error_share = 1;
        CHECK(found.counts == exact.counts);
        for (int64_t user = 0; user < 40; ++user) {
          const int64_t* rows = found.indices.data() + user * 10;
          const float* scores = found.scores.data() + user * 10;
          for (int64_t i = 0; i < found.counts[user]; ++i) {
            const Oracle oracle = formula(catalog, question, user, rows[i]);
            CHECK(std::fabs(scores[i] - oracle.score) <=
                  oracle.tolerance + std::fabs(oracle.score) * std::numeric_limits<float>::epsilon());
            CHECK(!question.excludes(user, rows[i]));
            CHECK(i == 0 || lsif::engine::is_better({scores[i - 1], rows[i - 1]}, {scores[i], rows[i]}));
          }
        }
        const auto missed = std::mismatch(found.indices.begin(), found.indices.end(), exact.indices.begin());
        if (share == 0) num_missed += missed.first == found.indices.end() ? 0 : 1;
        if (share == 1) CHECK(found == exact);
      }
      CHECK(num_missed > 0);
    }
  }
}

// However small error_share is, as many rows are found as by an exact search, for one query and for many.
TEST(approximate_searches_find_as_many_rows_as_there_are) {
  Random random(39);
  for (const int64_t num_items : {1, 40, 300, 9300}) {
    for (const int64_t num_equal : {int64_t{0}, num_items}) {
      std::vector<float> rows = normals(random, num_items * 8);
      if (num_equal > 0) std::fill(rows.begin(), rows.end(), 0.7f);
      Catalog catalog(rows, 8);
      catalog.code(shuffled(random, num_items), num_items == 300 || num_equal > 0);
      for (const int64_t batch : {1, 2, 40}) {
        for (const int64_t k : {int64_t{1}, int64_t{30}, num_items}) {
          Question question(normals(random, batch * 8), 8, 1, k);
          question.allow(random, num_items);
          const Result exact = run(catalog, question, *lsif::cpu::tested_kernels().front());
          for (const float share : {0.0f, 0.25f, 0.9f}) {
            question.request.error_share = share;
            for (const int threads : {1, 3}) {
              question.request.threads = threads;
              for (const KernelTable* table : lsif::cpu::tested_kernels()) {
                CHECK(run(catalog, question, *table).counts == exact.counts);
              }
            }
          }
        }
      }
    }
  }
}

TEST(an_order_has_each_row_once_and_does_not_depend_on_threads) {
  Random random(34);
  for (const int64_t num_items : {1, 5, 64, 1000, 20000}) {
    const Catalog catalog(make_clustered(random, num_items, 7), 7);
    const std::vector<int32_t> order = order_of(catalog, Ordering::kAlways).rows;
    CHECK(order == order_of(catalog, Ordering::kAlways, 4).rows);
    std::vector<int32_t> sorted = order;
    std::sort(sorted.begin(), sorted.end());
    bool is_complete = static_cast<int64_t>(sorted.size()) == num_items;
    for (int64_t i = 0; is_complete && i < num_items; ++i) is_complete = sorted[i] == i;
    CHECK(is_complete);
  }
}

TEST(rows_are_ordered_where_that_pays) {
  Random random(35);
  const Catalog clustered(make_clustered(random, 30000, 32), 32);
  CHECK(!order_of(clustered, Ordering::kWherePaying).rows.empty());
  CHECK(!order_of(clustered, Ordering::kWherePaying).by_length);
  CHECK(order_of(clustered, Ordering::kNever).rows.empty());
  CHECK(order_of(Catalog(make_clustered(random, 1000, 32), 32), Ordering::kWherePaying).rows.empty());
  CHECK(order_of(Catalog({}, 32), Ordering::kAlways).rows.empty());
  // No clusters, and lengths that vary little.
  const Catalog alike(normals(random, 30000 * 32), 32);
  CHECK(order_of(alike, Ordering::kWherePaying).rows.empty());
  CHECK(!order_of(alike, Ordering::kAlways).rows.empty());
  CHECK(!order_of(alike, Ordering::kAlways).by_length);
}

TEST(an_order_that_is_none_is_refused) {
  Random random(36);
  Catalog catalog(normals(random, 40 * 9), 9);
  catalog.code(shuffled(random, 40));
  const uint8_t* order = catalog.view().codes.order;
  const auto with = [&](int64_t slot, int32_t item) {
    Catalog damaged = catalog;
    std::memcpy(damaged.codes.data() + (order - catalog.codes.data()) + slot * 4, &item, 4);
    damaged.view();
  };
  CHECK_THROWS(with(3, 40), "codes: expected an order with each row in [0, 40) once, got 40 in place 3");
  CHECK_THROWS(with(39, -1), "got -1 in place 39");
  int32_t first = 0;
  std::memcpy(&first, order, 4);
  CHECK_THROWS(with(7, first), "got " + std::to_string(first) + " in place 7");
}

TEST(changed_and_new_rows_of_an_order) {
  Random random(37);
  constexpr int64_t kDim = 20;
  for (const int64_t num_new : {0, 1, 700}) {
    const Catalog old = Catalog(make_clustered(random, 9000, kDim), kDim, make_bias(random, 9000, 0.1f)).ordered();
    Catalog catalog = old;
    std::vector<int64_t> changed;
    for (int64_t i = 0; i < 50; ++i) changed.push_back(static_cast<int64_t>(random() % 9000));
    for (const int64_t item : changed) {
      catalog.bias[item] += 1;
      for (int64_t i = 0; i < kDim; ++i) catalog.vectors[1 + item * kDim + i] = 2 * normal(random);
    }
    const std::vector<float> rows = normals(random, num_new * kDim);
    catalog.vectors.insert(catalog.vectors.end(), rows.begin(), rows.end());
    catalog.bias.resize(9000 + num_new, 0.5f);
    catalog.num_items += num_new;
    catalog.codes.assign(1 + lsif::engine::codes_size(catalog.num_items, kDim, true), 0);
    lsif::engine::update_codes({old.codes.data() + 1, static_cast<int64_t>(old.codes.size()) - 1, 9000},
                               catalog.vectors.data() + 1, catalog.biases(), catalog.num_items, kDim, changed.data(),
                               50, catalog.codes.data() + 1, 2);
    CHECK(catalog.view().codes.order != nullptr);
    Question question(make_clustered(random, 6, kDim), kDim, 1, 20);
    check_against_brute_force(catalog, question, "updated");
    // Except for the size bounds, the codes equal those of the whole catalogue in this order.
    std::vector<int32_t> order(catalog.num_items);
    std::memcpy(order.data(), catalog.view().codes.order, order.size() * 4);
    Catalog whole = catalog;
    whole.code(order);
    CHECK(std::equal(whole.codes.begin() + 65, whole.codes.end(), catalog.codes.begin() + 65));
  }
}

}  // namespace
