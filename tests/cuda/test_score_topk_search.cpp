// What score_topk does on a GPU beyond its bounds, which tests/kernels/test_score_topk*.cpp test.
#include "kernels/cuda/topk_search.h"
#include "score_topk_oracle.h"

namespace {

using namespace score_topk_test;  // NOLINT: what these tests are written in

// How many rows of each query waited for being scored exactly: QueryBound is what the workspace ends with.
std::vector<unsigned> run_and_count(const Catalog& catalog, Question& question, Result& result) {
  std::vector<unsigned char> workspace;
  const ScoreTopkRequest& request = question.get();
  result = room_for(request);
  run_on_cuda(catalog.view(), request, result.scores.data(), result.indices.data(), result.counts.data(), &workspace);
  std::vector<lsif::cuda::QueryBound> bounds(request.batch);
  const size_t size = bounds.size() * sizeof(bounds[0]);
  std::memcpy(bounds.data(), workspace.data() + workspace.size() - size, size);
  std::vector<unsigned> counts;
  for (const lsif::cuda::QueryBound& bound : bounds) counts.push_back(bound.count);
  return counts;
}

TEST(few_rows_are_scored_exactly) {
  Random random(4);
  const Catalog catalog(make_clustered(random, 100000, 16), 16, make_bias(random, 100000, 0.1f));
  for (const int64_t k : {1, 10, 300, 1000}) {
    for (const bool is_filtered : {false, true}) {
      Question question(make_clustered(random, 3, 16), 16, 1, k);
      if (is_filtered) {  // the best rows of all
        Result best;
        run_and_count(catalog, question, best);
        question.exclude_items.assign(best.indices.begin(), best.indices.end());
        question.exclude_offsets = {0, k, 2 * k, 3 * k};
      }
      Result result;
      for (const unsigned count : run_and_count(catalog, question, result)) {
        CHECK(count >= k);
        CHECK(count < 2000 + 20 * k);
      }
      CHECK(result == brute_force(catalog, question));
    }
  }
}

// One query of few results takes a way of its own (topk_lone.cuh). In emulation ten blocks leave candidates: k up to 2.
TEST(a_lone_query) {
  Random random(9);
  for (const int64_t dim : {1, 31, 64}) {
    const Catalog catalog(make_clustered(random, 20000, dim), dim, make_bias(random, 20000, 0.1f));
    for (const int64_t k : {1, 2, 3, 100, 101}) {
      const std::vector<float> user = make_clustered(random, 1, dim);
      Question open(user, dim, 1, k);
      Result best;
      CHECK(run_and_count(catalog, open, best)[0] < (dim == 1 ? 20001 : 3000 + 20 * k));
      CHECK(best == brute_force(catalog, open));
      Question question(user, dim, 1, k);  // without the best rows, in two ways
      question.exclude_items.assign(best.indices.begin(), best.indices.end());
      question.exclude_offsets = {0, k};
      check_against_brute_force(catalog, question, "a lone query that excludes");
      question.allowed.emplace_back(lsif::divide_up(20000, 64), ~uint64_t{0});
      for (const int64_t item : brute_force(catalog, question).indices) {
        question.allowed[0][item / 64] &= ~(uint64_t{1} << (item % 64));
      }
      check_against_brute_force(catalog, question, "a lone query of allowed rows");
    }
    Question none(std::vector<float>(dim, 1.0f), dim, 1, 1);
    none.allowed.emplace_back(lsif::divide_up(20000, 64), uint64_t{0});
    check_against_brute_force(catalog, none, "a lone query of no rows");
  }
}

TEST(more_finalists_than_there_is_room_for) {
  Random random(10);
  const Catalog catalog(normals(random, 10000 * 8), 8);
  Question question(normals(random, 2 * 8), 8, 1, 300);
  // Of too few groups for the sample to know 300 rows: all that are allowed are finalists.
  for (int64_t user = 0; user < 2; ++user) {
    question.allowed.emplace_back(lsif::divide_up(10000, 64), uint64_t{0});
    for (int64_t word = 0; word < 45 + user; ++word) question.allowed[user][word] = ~uint64_t{0};
  }
  Result result;
  CHECK(run_and_count(catalog, question, result) == (std::vector<unsigned>{45 * 64, 46 * 64}));
  CHECK(result == brute_force(catalog, question));
}

TEST(more_rows_than_can_wait) {
  Random random(5);
  // All rows equal, and rows whose codes say nothing: beside each other sizes that are 10^30 times the others.
  std::vector<float> rows;
  for (int64_t i = 0; i < 24000; ++i) rows.push_back((i % 16 == 0 ? -1e30f : 1.0f) * std::fabs(normal(random)));
  for (const Catalog& catalog : {Catalog(std::vector<float>(24000, 0.5f), 1), Catalog(rows, 1)}) {
    for (const int64_t k : {1, 300, 3000}) {
      Question question({1.0f, 2.0f}, 1, 1, k);
      Result result;
      for (const unsigned count : run_and_count(catalog, question, result)) CHECK(count > 20000);
      question.exclude(random, 12000);
      check_against_brute_force(catalog, question, "more rows than can wait");
    }
  }
}

TEST(better_thresholds_make_lists_shorter) {
  Random random(7);
  const std::vector<float> users = normals(random, 32 * 64);
  // Of a group the sample knows the best row alone: where the best rows of all share a few groups its threshold is low.
  std::vector<float> rows = normals(random, 30000 * 64);
  for (size_t row = 0; row < 128; ++row) {
    const float* user = users.data() + (row < 64 ? 0 : 31 * 64);
    const float length = 1.0f + 0.01f * static_cast<float>(row % 64);
    for (size_t c = 0; c < 64; ++c) rows[row * 64 + c] = length * user[c];
  }
  const Catalog catalog(rows, 64);
  Question together(users, 64, 1, 10);
  Result expected;
  const std::vector<unsigned> short_lists = run_and_count(catalog, together, expected);  // what is left of them
  unsigned shortened = 0;
  unsigned as_they_were = 0;
  for (const int64_t user : {0, 31}) {
    Question alone({users.begin() + 64 * user, users.begin() + 64 * (user + 1)}, 64, 1, 10);
    Result result;
    const unsigned count = run_and_count(catalog, alone, result)[0];
    CHECK(short_lists[user] >= 10);
    shortened += short_lists[user];
    as_they_were += count;
    CHECK(std::equal(result.indices.begin(), result.indices.end(), expected.indices.begin() + 10 * user));
    CHECK(std::equal(result.scores.begin(), result.scores.end(), expected.scores.begin() + 10 * user));
  }
  CHECK(2 * shortened < as_they_were);
}

TEST(more_queries_than_are_searched_together) {
  Random random(8);
  const Catalog catalog(normals(random, 40 * 3), 3);
  Question question(normals(random, 520 * 3), 3, 1, 2);
  question.exclude(random, 3);
  check_against_brute_force(catalog, question, "more queries than are searched together");
}

TEST(every_number_of_queries) {
  Random random(6);
  for (const int64_t dim : {5, 32, 70, 128, 129, 256, 300}) {  // kernels are for so many dimensions
    const Catalog catalog(normals(random, 1500 * dim), dim, make_bias(random, 1500, 0.5f));
    for (const int64_t batch : {1, 7, 8, 9, 31, 32, 33, 70}) {
      if (dim > 70 && batch != 1 && batch != 9 && batch != 33) continue;
      Question question(normals(random, batch * dim), dim, 1, 10);
      check_against_brute_force(catalog, question, "batch");
    }
    for (const int64_t num_interests : {1, 7, 8, 9, 40, 256}) {
      if (dim > 70) break;
      Question question(normals(random, 2 * num_interests * dim), dim, num_interests, 10);
      question.weigh(random);
      question.weights[num_interests / 2] = num_interests == 1 ? 1.0f : 0.0f;
      Result result;
      run_and_count(catalog, question, result);
      Result expected = room_for(question.request);
      lsif::engine::score_topk(catalog.view(), question.request, expected.scores.data(), expected.indices.data(),
                               expected.counts.data());
      CHECK(result == expected);
    }
  }
}

}  // namespace
