// TopkRowsFn compared with brute force: the same bits for any list of rows, kind of data and instruction set.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#if defined(__SSE__)
#include "flushed_denormals.h"
#endif
#include "guarded.h"
#include "score_topk_oracle.h"

namespace {

using namespace score_topk_test;  // NOLINT: for brevity in tests

std::vector<std::vector<uint64_t>> bitmaps_of(const std::vector<int64_t>& rows, int64_t num_items, int64_t batch) {
  std::vector<uint64_t> bitmap((num_items + 63) / 64);
  for (const int64_t row : rows) bitmap[row / 64] |= uint64_t{1} << (row % 64);
  return std::vector<std::vector<uint64_t>>(batch, bitmap);
}

// Runs all users at once. The rows end at an unreadable page; scratch has only the promised size.
Result run_rows(const Catalog& catalog, const Question& question, const std::vector<int64_t>& rows,
                const KernelTable& table) {
  const ScoreTopkRequest& request = question.request;
  const auto num_rows = static_cast<int64_t>(rows.size());
  guarded::Array<int64_t> guarded_rows(num_rows);
  std::copy(rows.begin(), rows.end(), guarded_rows.data());
  std::vector<lsif::TopkQuery> queries(request.batch);
  const int64_t room = lsif::topk_rows_room(num_rows, request.k);
  std::vector<std::vector<ScoredItem>> best(request.batch, std::vector<ScoredItem>(room));
  for (int64_t user = 0; user < request.batch; ++user) {
    lsif::TopkQuery& query = queries[user];
    query = {};
    query.vectors = question.queries.data() + user * request.num_interests * catalog.dim;
    query.weights = question.weights.empty() ? nullptr : question.weights.data() + user * request.num_interests;
    query.num_interests = request.num_interests;
    query.temperature = request.temperature;
    if (!question.exclude_offsets.empty()) {
      query.exclude = question.exclude_items.data() + question.exclude_offsets[user];
      query.num_exclude = question.exclude_offsets[user + 1] - question.exclude_offsets[user];
    }
    query.best = best[user].data();
    query.k = request.k;
  }
  const int64_t bytes = lsif::topk_rows_scratch_size(request.batch, num_rows, catalog.dim);
  const auto lines = static_cast<size_t>((bytes + 63) / 64);
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> scratch(lines);
  table.topk_rows(catalog.view(), guarded_rows.data(), num_rows, queries.data(), request.batch, scratch.data());
  Result result = {std::vector<float>(request.batch * request.k), std::vector<int64_t>(request.batch * request.k, -1),
                   std::vector<int64_t>(request.batch)};
  for (int64_t user = 0; user < request.batch; ++user) {
    const auto end = best[user].begin() + queries[user].num_best;
    std::sort(best[user].begin(), end, [](const ScoredItem& a, const ScoredItem& b) {
      return a.score > b.score || (a.score == b.score && a.item < b.item);
    });
    result.counts[user] = std::min(queries[user].num_best, request.k);
    for (int64_t i = 0; i < result.counts[user]; ++i) {
      result.scores[user * request.k + i] = best[user][i].score;
      result.indices[user * request.k + i] = best[user][i].item;
    }
  }
  return result;
}

void check_rows(const Catalog& catalog, Question question, const std::vector<int64_t>& rows, const std::string& what) {
  question.allowed = bitmaps_of(rows, catalog.num_items, question.request.batch);
  const Result expected = brute_force(catalog, question);
  for (const KernelTable* table : lsif::cpu::tested_kernels()) {
    CHECK_MESSAGE(run_rows(catalog, question, rows, *table) == expected,
                  what + ": " + table->isa + " differs from brute force: " + std::to_string(rows.size()) + " of " +
                      std::to_string(catalog.num_items) + " x " + std::to_string(catalog.dim) + ", k " +
                      std::to_string(question.request.k));
  }
}

// `count` of num_items rows, ascending, including the last.
std::vector<int64_t> some_rows(Random& random, int64_t count, int64_t num_items) {
  std::vector<int64_t> rows(num_items);
  for (int64_t i = 0; i < num_items; ++i) rows[i] = i;
  std::shuffle(rows.begin(), rows.end() - 1, random);
  rows.erase(rows.begin(), rows.end() - count);
  std::sort(rows.begin(), rows.end());
  return rows;
}

TEST(rows_of_every_kind) {
  Random random(41);
  for (const Kind& kind : kinds()) {
    for (const int64_t dim : {1, 7, 16, 50}) {
      const Catalog catalog(kind.items(random, 400, dim), dim, make_bias(random, 400, kind.bias));
      for (const int64_t k : {1, 10, 60}) {
        check_rows(catalog, Question(kind.queries(random, 7, dim), dim, 1, k), some_rows(random, 300, 400), kind.name);
      }
    }
  }
}

TEST(lists_of_every_length) {
  Random random(42);
  for (const int64_t dim : {3, 17, 64, 129}) {
    const Catalog catalog(make_clustered(random, 1200, dim), dim, make_bias(random, 1200, 0.5f));
    for (const int64_t count : {1, 2, 15, 16, 17, 31, 33, 100, 257, 1000}) {
      for (const int64_t k : {1, 5, 40, 1000}) {
        Question question(make_clustered(random, 2, dim), dim, 1, k);
        check_rows(catalog, question, some_rows(random, count, 1200), "length");
      }
    }
  }
}

// Some of these numbers are enough for the queries' vectors to be interleaved.
TEST(queries_of_every_number) {
  Random random(50);
  for (const int64_t dim : {1, 5, 16, 70}) {
    const Catalog catalog(make_clustered(random, 300, dim), dim, make_bias(random, 300, 0.5f));
    for (const int64_t batch : {1, 2, 5, 6, 7, 8, 9, 15, 16}) {
      for (const int64_t count : {20, 32, 33, 200, 256}) {
        Question question(make_clustered(random, batch, dim), dim, 1, 9);
        question.exclude(random, 300);
        for (int64_t user = 0; user < batch; ++user) {
          const auto first = question.exclude_items.begin() + question.exclude_offsets[user];
          std::sort(first, question.exclude_items.begin() + question.exclude_offsets[user + 1]);
        }
        check_rows(catalog, question, some_rows(random, count, 300), "queries");
      }
    }
  }
}

TEST(no_rows_and_no_users) {
  Random random(43);
  const Catalog catalog(make_clustered(random, 40, 8), 8);
  check_rows(catalog, Question(make_clustered(random, 2, 8), 8, 1, 3), {}, "no rows");
  check_rows(catalog, Question({}, 8, 1, 3), some_rows(random, 20, 40), "no users");
}

// More excluded rows than rows, fewer, and all rows except some.
TEST(excluded_rows_are_left_out) {
  Random random(44);
  const Catalog catalog(make_clustered(random, 900, 24), 24, make_bias(random, 900, 0.5f));
  for (const int64_t count : {20, 300, 850}) {
    const std::vector<int64_t> rows = some_rows(random, count, 900);
    for (const int64_t k : {1, 10, 100}) {
      Question question(make_clustered(random, 4, 24), 24, 1, k);
      question.exclude_offsets = {0};
      for (const int64_t excluded : {0, 30, 400, 898}) {
        const std::vector<int64_t> left_out = some_rows(random, excluded, 900);
        question.exclude_items.insert(question.exclude_items.end(), left_out.begin(), left_out.end());
        question.exclude_offsets.push_back(static_cast<int64_t>(question.exclude_items.size()));
      }
      check_rows(catalog, question, rows, "excluded");
    }
  }
}

TEST(several_interests_of_few_rows) {
  Random random(45);
  const Catalog catalog(make_clustered(random, 300, 20), 20, make_bias(random, 300, 0.5f));
  Question question(make_clustered(random, 3 * 4, 20), 20, 4, 12);
  question.weigh(random);
  check_rows(catalog, question, some_rows(random, 150, 300), "interests");
}

// Scores that differ by less than float32 can resolve, so that the order is lost if the error is not accounted for:
// sums of products that cancel, as large as those of the largest row.
TEST(nearly_equal_scores) {
  Random random(46);
  for (const int64_t dim : {2, 16, 64, 300}) {
    std::vector<float> rows;
    for (int64_t row = 0; row < 600; ++row) {
      for (int64_t i = 0; i < dim; i += 2) {
        const float x = 1000.0f * normal(random);
        rows.push_back(x);
        rows.push_back(-x + 1e-4f * normal(random));
      }
    }
    const Catalog catalog(rows, dim);
    for (const int64_t k : {1, 10, 200}) {
      check_rows(catalog, Question(std::vector<float>(2 * dim, 1.0f), dim, 1, k), some_rows(random, 500, 600),
                 "nearly equal");
    }
  }
}

// An unlisted row so long that its length is no useful bound for those listed.
TEST(a_long_row_that_is_not_listed) {
  Random random(54);
  for (const float size : {1e6f, 1e18f, 3e38f}) {
    std::vector<float> rows;
    for (int64_t row = 0; row < 600; ++row) {
      for (int64_t i = 0; i < 64; i += 2) {
        const float x = 1000.0f * normal(random);
        rows.push_back(row == 599 ? size : x);
        rows.push_back(row == 599 ? -size : -x + 1e-4f * normal(random));
      }
    }
    const Catalog catalog(rows, 64);
    std::vector<int64_t> listed = some_rows(random, 500, 599);
    for (const int64_t k : {1, 10, 100}) {
      check_rows(catalog, Question(std::vector<float>(7 * 64, 1.0f), 64, 1, k), listed, "not listed");
    }
    listed.push_back(599);
    check_rows(catalog, Question(std::vector<float>(2 * 64, 1.0f), 64, 1, 10), listed, "listed");
  }
}

// Biases of both signs, for some rows only, from as large as the scores to as small as their differences.
TEST(biases_of_every_size) {
  Random random(53);
  for (const float size : {1e-6f, 1.0f, 1e4f, 1e8f, -1e18f, 1e18f, -3e38f}) {
    std::vector<float> bias = make_bias(random, 500, 0.1f);
    for (int64_t row = 0; row < 500; row += 3) bias[row] += size;
    const Catalog catalog(normals(random, 500 * 24), 24, bias);
    for (const int64_t k : {1, 20, 180}) {
      check_rows(catalog, Question(normals(random, 7 * 24), 24, 1, k), some_rows(random, 400, 500), "biases");
    }
  }
}

// Every product is rounded to a small multiple of the smallest subnormal.
TEST(scores_of_the_least_numbers) {
  Random random(47);
  const Catalog catalog(scaled(1e-25f)(random, 500, 64), 64);
  for (const int64_t k : {1, 20}) {
    check_rows(catalog, Question(scaled(2e-20f)(random, 2, 64), 64, 1, k), some_rows(random, 400, 500), "least");
  }
}

#if defined(__SSE__)
// In the better half of the rows every product is flushed to 0; in the others, the first products are not.
TEST(scores_where_denormals_are_flushed) {
  Random random(49);
  std::vector<float> rows(400 * 512);
  for (size_t i = 0; i < rows.size(); ++i) {
    const float factor = i / 512 % 2 == 0 ? 1.0f : i % 512 < 16 ? 4.0f : 0.25f;
    rows[i] = factor * std::uniform_real_distribution<float>(0.5f, 1.0f)(random) * 0x1p-64f;
  }
  const Catalog catalog(rows, 512);
  Question question(std::vector<float>(512, 0x1p-63f), 512, 1, 7);
  const std::vector<int64_t> list = some_rows(random, 300, 400);
  question.allowed = bitmaps_of(list, 400, 1);
  const Result expected = brute_force(catalog, question);
  for (const KernelTable* table : lsif::cpu::tested_kernels()) {
    const FlushedDenormals flushed;
    CHECK(run_rows(catalog, question, list, *table) == expected);
  }
}
#endif

// Products beyond float32 that cancel, in one lane of any vector size: its sum stays infinite.
TEST(sums_beyond_float32_on_the_way) {
  Random random(48);
  std::vector<float> rows = normals(random, 300 * 48);
  for (int64_t row = 0; row < 300; row += 3) {
    rows[row * 48] = -1e18f;
    rows[row * 48 + 32] = -rows[row * 48];
  }
  const Catalog catalog(rows, 48);
  check_rows(catalog, Question(std::vector<float>(48, 1e22f), 48, 1, 9), some_rows(random, 200, 300), "on the way");
}

}  // namespace
