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

// The processors of a large GPU, as far as emulation has a say.
class ManyProcessors {
#if defined(LSIF_CUDA_EMULATED)
 public:
  ManyProcessors() { emulated::num_processors = 132; }
  ~ManyProcessors() { emulated::num_processors = before_; }

 private:
  int before_ = emulated::num_processors;
#endif
};

// One query of few results takes a way of its own (topk_lone.cuh), where k is no more than 1/4 of the sample's blocks:
// of 4,000 rows 4, of 60,000 58.
TEST(a_lone_query_of_few_rows) {
  [[maybe_unused]] const ManyProcessors processors;
  Random random(11);
  const Catalog catalog(normals(random, 4000 * 5), 5, make_bias(random, 4000, 0.5f));
  for (const int64_t k : {1, 2, 3, 4}) {
    Question question(normals(random, 5), 5, 1, k);
    check_against_brute_force(catalog, question, "few rows");
    question.allow(random, 4000);
    check_against_brute_force(catalog, question, "few rows, of which some are allowed");
  }
}

TEST(a_lone_query) {
  [[maybe_unused]] const ManyProcessors processors;
  Random random(9);
  constexpr int64_t kRows = 60000;
  for (const int64_t dim : {1, 31, 64}) {
    const Catalog catalog(make_clustered(random, kRows, dim), dim, make_bias(random, kRows, 0.1f));
    for (const int64_t k : {1, 3, 58, 59}) {
      const std::vector<float> user = make_clustered(random, 1, dim);
      Question open(user, dim, 1, k);
      Result best;
      CHECK(run_and_count(catalog, open, best)[0] < (dim == 1 ? kRows + 1 : 3000 + 20 * k));
      CHECK(best == brute_force(catalog, open));
      Question question(user, dim, 1, k);  // without the best rows, in two ways
      question.exclude_items.assign(best.indices.begin(), best.indices.end());
      question.exclude_offsets = {0, k};
      question.allowed.emplace_back(lsif::divide_up(kRows, 64), ~uint64_t{0});
      for (const int64_t item : brute_force(catalog, question).indices) {
        question.allowed[0][item / 64] &= ~(uint64_t{1} << (item % 64));
      }
      check_against_brute_force(catalog, question, "a lone query that excludes, of allowed rows");
    }
    Question none(std::vector<float>(dim, 1.0f), dim, 1, 1);
    none.allowed.emplace_back(lsif::divide_up(kRows, 64), uint64_t{0});
    check_against_brute_force(catalog, none, "a lone query of no rows");
  }
}

// Rows that are alike lie together, as in a catalogue with an order: a block of the sample leaves one row only, so the
// best rows of all must not be one block's.
TEST(a_lone_query_of_rows_in_order) {
  [[maybe_unused]] const ManyProcessors processors;
  Random random(12);
  constexpr int64_t kClusters = 12, kEach = 5000, kDim = 32;
  std::vector<float> rows;
  for (int64_t c = 0; c < kClusters; ++c) {
    const std::vector<float> center = normals(random, kDim);
    for (int64_t i = 0; i < kEach; ++i) {
      const std::vector<float> noise = normals(random, kDim);
      for (int64_t d = 0; d < kDim; ++d) rows.push_back(center[d] + 0.3f * noise[d]);
    }
  }
  const Catalog catalog(rows, kDim);
  for (const int64_t k : {1, 10, 50}) {
    Question question({rows.begin() + 7 * kEach * kDim, rows.begin() + (7 * kEach + 1) * kDim}, kDim, 1, k);
    Result result;
    CHECK(run_and_count(catalog, question, result)[0] < 500 + 40 * k);
    CHECK(result == brute_force(catalog, question));
  }
}

// Where the sample knows too few rows there is no threshold; where it knows none of very many good ones a low one.
TEST(rows_the_sample_does_not_know) {
  Random random(10);
  const Catalog few(normals(random, 10000 * 8), 8);
  Question question(normals(random, 2 * 8), 8, 1, 300);
  for (int64_t user = 0; user < 2; ++user) {  // of 180 groups and some
    question.allowed.emplace_back(lsif::divide_up(10000, 64), uint64_t{0});
    for (int64_t word = 0; word < 45 + user; ++word) question.allowed[user][word] = ~uint64_t{0};
  }
  Result result;
  CHECK(run_and_count(few, question, result) == (std::vector<unsigned>{45 * 64, 46 * 64}));
  CHECK(result == brute_force(few, question));
  std::vector<float> rows(140000);  // of which every second group is in the sample
  for (size_t row = 0; row < rows.size(); ++row) {
    rows[row] = std::fabs(normal(random)) + (row / 16 % 2 == 1 && row < 100000 ? 10.0f : 0.0f);
  }
  const Catalog many(rows, 1);
  Question one({1.0f}, 1, 1, 10);
  CHECK(run_and_count(many, one, result)[0] > 16384);  // more than there is room for
  CHECK(result == brute_force(many, one));
  std::fill(rows.begin() + 32 * 300, rows.end(), 0.0f);
  const Catalog some(rows, 1);
  const unsigned waiting = run_and_count(some, one, result)[0];
  CHECK(waiting >= 300 * 16 && waiting < 16384);  // more finalists than 2,048 there is room for
  CHECK(result == brute_force(some, one));
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
