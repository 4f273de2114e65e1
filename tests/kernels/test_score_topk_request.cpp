// What a request may contain, in any batch and for any number of threads, and what is refused.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "score_topk_oracle.h"

namespace {

using namespace score_topk_test;  // NOLINT: for brevity in tests

TEST(batch_and_threads_do_not_matter) {
  Random random(5);
  constexpr int64_t kDim = 24;
  constexpr int64_t kBatch = 150;
  const Catalog catalog(make_clustered(random, 40000, kDim), kDim, make_bias(random, 40000, 0.1f));
  for (const int64_t num_interests : {1, 3}) {
    Question all(make_clustered(random, kBatch * num_interests, kDim), kDim, num_interests, 20);
    if (num_interests > 1) all.weigh(random);
    const KernelTable& table = lsif::cpu::kernels();
    const Result expected = run(catalog, all, table);
    for (const int threads : {0, 2, 3, 7}) {
      all.request.threads = threads;
      CHECK(run(catalog, all, table) == expected);
    }
    for (const int64_t user : {0, 1, 77, 149}) {
      const auto first = all.queries.begin() + user * num_interests * kDim;
      Question one(std::vector<float>(first, first + num_interests * kDim), kDim, num_interests, 20);
      if (num_interests > 1) {
        const auto weight = all.weights.begin() + user * num_interests;
        one.weights.assign(weight, weight + num_interests);
      }
      for (const int threads : {1, 4}) {
        one.request.threads = threads;
        const Result result = run(catalog, one, table);
        CHECK(std::equal(result.indices.begin(), result.indices.end(), expected.indices.begin() + user * 20));
        CHECK(std::equal(result.scores.begin(), result.scores.end(), expected.scores.begin() + user * 20));
      }
    }
  }
}

TEST(only_allowed_rows_are_returned) {
  Random random(11);
  for (const int64_t num_items : {1, 63, 64, 65, 700, 5000}) {
    for (const int64_t num_interests : {1, 3}) {
      const Catalog catalog(make_clustered(random, num_items, 20), 20, make_bias(random, num_items, 0.2f));
      Question question(make_clustered(random, 8 * num_interests, 20), 20, num_interests, 12);
      if (num_interests > 1) question.weigh(random);
      question.allow(random, num_items);
      check_against_brute_force(catalog, question, "allowed rows");
      question.exclude(random, num_items);
      check_against_brute_force(catalog, question, "allowed and excluded rows");
    }
  }
}

// Around the share of allowed rows up to which all of them are scored without a scan (engine/few_rows.cpp), in a batch
// that also has users above it; the last user's rows are adjacent.
TEST(few_or_many_rows_are_allowed) {
  Random random(23);
  constexpr int64_t kUsers = 9;
  for (const int64_t num_items : {200, 4803, 70001}) {  // 1,024 rows count as few; in the last also a 32nd
    for (const int64_t num_interests : {1, 3}) {
      const Catalog catalog(make_clustered(random, num_items, 12), 12, make_bias(random, num_items, 0.2f));
      Question question(make_clustered(random, kUsers * num_interests, 12), 12, num_interests, 30);
      if (num_interests > 1) question.weigh(random);
      const int64_t most = std::max<int64_t>(1024, num_items / 32);
      const int64_t wanted[kUsers] = {0, 1, 29, most - 1, most, most + 1, -1, num_items, most};
      for (int64_t user = 0; user < kUsers; ++user) {
        std::vector<uint64_t> bitmap(wanted[user] < 0 ? 0 : (num_items + 63) / 64);
        for (int64_t set = 0; set < std::min(wanted[user], num_items);) {
          const auto row = user > 6 ? set : static_cast<int64_t>(random() % num_items);
          const uint64_t bit = uint64_t{1} << (row % 64);
          set += (bitmap[row / 64] & bit) == 0;
          bitmap[row / 64] |= bit;
        }
        if (!bitmap.empty() && num_items % 64 != 0) bitmap.back() |= ~uint64_t{0} << (num_items % 64);  // past the end
        question.allowed.push_back(bitmap);
      }
      check_against_brute_force(catalog, question, "few or many allowed rows");
      question.exclude(random, num_items);
      check_against_brute_force(catalog, question, "few or many allowed rows, some excluded");
      for (const int threads : {2, 5}) {
        question.request.threads = threads;
        check_against_brute_force(catalog, question, "few or many allowed rows, threads");
      }
    }
  }
}

// Here runs of users with the same filter end and begin again, longer than a group; the vectors exceed any cache.
TEST(users_of_one_filter_share_its_rows) {
  Random random(29);
  constexpr int64_t kUsers = 75;
  constexpr int64_t kItems = 90001;
  constexpr int64_t kDim = 100;
  const Catalog catalog(make_clustered(random, kItems, kDim), kDim);
  Question question(make_clustered(random, kUsers, kDim), kDim, 1, 15);
  std::vector<std::vector<uint64_t>> filters(3, std::vector<uint64_t>((kItems + 63) / 64));
  for (size_t f = 0; f < filters.size(); ++f) {
    const int64_t count = f == 2 ? kItems / 20 : 20 + 700 * static_cast<int64_t>(f);  // the last one allows many
    for (int64_t i = 0; i < count; ++i) {
      const uint64_t row = random() % kItems;
      filters[f][row / 64] |= uint64_t{1} << (row % 64);
    }
  }
  const auto filter_of = [](int64_t user) { return static_cast<size_t>(user < 40 ? user / 37 : user % 3); };
  for (int64_t user = 0; user < kUsers; ++user) question.allowed.push_back(filters[filter_of(user)]);
  const Result expected = run(catalog, question, lsif::cpu::kernels());
  std::vector<const uint64_t*> shared;
  for (int64_t user = 0; user < kUsers; ++user) shared.push_back(filters[filter_of(user)].data());
  lsif::engine::ScoreTopkRequest request = question.get();
  request.allowed = shared.data();
  for (const int threads : {1, 3}) {
    request.threads = threads;
    Result result = room_for(request);
    lsif::engine::score_topk(catalog.view(), request, result.scores.data(), result.indices.data(),
                             result.counts.data());
    CHECK(result == expected);
  }
  for (int64_t user = 0; user < kUsers; ++user) CHECK(expected.counts[user] == 15);
}

TEST(a_score_beyond_float32_of_few_rows_is_refused) {
  std::vector<float> rows(600 * 4, 1.0f);
  std::fill_n(rows.begin() + 4 * 77, 4, 3e38f);
  const Catalog catalog(rows, 4);
  Question question(std::vector<float>(2 * 4, 10.0f), 4, 1, 3);
  for (const int64_t row : {5, 77}) {
    question.allowed.emplace_back(10);
    question.allowed.back()[row / 64] |= uint64_t{1} << (row % 64);
  }
  CHECK_THROWS(run(catalog, question, lsif::cpu::kernels()), "got one beyond it for user 1, row 77");
}

// Ranges of rows of which some have fewer than k results, and some none.
TEST(threads_put_short_results_together) {
  constexpr int64_t kRows = 70000, kDim = 64, kK = 10;
  Random random(12);
  const Catalog catalog(normals(random, kRows * kDim), kDim);
  Question question(normals(random, 3 * kDim), kDim, 1, kK);
  const std::vector<std::vector<int64_t>> allowed = {
      {5, 6, 7, 40000, 69999}, {1, 2, 20000, 20001, 20002, 20003, 20004, 20005, 50001, 50002, 50003, 50004}, {}};
  for (const std::vector<int64_t>& rows : allowed) {
    std::vector<uint64_t> bitmap(kRows / 64 + 1);
    for (const int64_t row : rows) bitmap[row / 64] |= uint64_t{1} << (row % 64);
    question.allowed.push_back(bitmap);
  }
  const Result expected = brute_force(catalog, question);
  for (const int threads : {1, 2, 4, 7}) {
    question.request.threads = threads;
    CHECK(run(catalog, question, lsif::cpu::kernels()) == expected);
  }
}

TEST(score_items_is_score_topk_of_all_rows) {
  Random random(7);
  constexpr int64_t kItems = 300;
  const Catalog catalog(normals(random, kItems * 20), 20, make_bias(random, kItems, 1.0f));
  Question question(normals(random, 3 * 2 * 20), 20, 2, kItems);
  question.weigh(random);
  const Result all = run(catalog, question, lsif::cpu::kernels());
  const std::vector<int64_t> offsets = {0, kItems, 2 * kItems, 3 * kItems};
  for (const int threads : {1, 3}) {
    std::vector<float> scores(3 * kItems, -7.0f);
    lsif::engine::score_items(catalog.view(), question.get(), all.indices.data(), offsets.data(), scores.data(),
                              threads);
    CHECK(scores == all.scores);
  }
  const std::vector<int64_t> some = {4, 4, 0};
  const std::vector<int64_t> ragged = {0, 0, 1, 3};
  std::vector<float> scores(3);
  lsif::engine::score_items(catalog.view(), question.get(), some.data(), ragged.data(), scores.data(), 1);
  CHECK(scores[0] == static_cast<float>(shared_score(catalog, question, 1, 4)));
  CHECK(scores[1] == static_cast<float>(shared_score(catalog, question, 2, 4)));
  CHECK(scores[2] == static_cast<float>(shared_score(catalog, question, 2, 0)));
}

TEST(check_finite_finds_the_first_bad_row) {
  std::vector<float> x(3000 * 300, 1.0f);
  CHECK(lsif::engine::check_finite(x.data(), 3000, 300, 2) == -1);
  x[2999 * 300 + 299] = std::nanf("");
  CHECK(lsif::engine::check_finite(x.data(), 3000, 300, 2) == 2999);
  x[1700 * 300] = -HUGE_VALF;
  CHECK(lsif::engine::check_finite(x.data(), 3000, 300, 2) == 1700);
  CHECK(lsif::engine::check_finite(x.data(), 0, 300, 2) == -1);
}

TEST(bad_arguments_are_refused) {
  Random random(10);
  const KernelTable& table = lsif::cpu::kernels();
  const Catalog catalog(normals(random, 50 * 8), 8);
  const Question good(normals(random, 2 * 2 * 8), 8, 2, 5);
  const auto with = [&](auto change) {
    Question question = good;
    question.weights = {0.5f, 0.5f, 0.5f, 0.5f};
    change(question);
    run(catalog, question, table);
  };
  with([](Question&) {});
  CHECK_THROWS(with([](Question& q) { q.request.k = 0; }), "k: expected an integer >= 1, got 0");
  CHECK_THROWS(with([](Question& q) { q.request.threads = -1; }), "threads: expected");
  CHECK_THROWS(with([](Question& q) { q.queries[8] = std::nanf(""); }), "user 0, interest 1");
  CHECK_THROWS(with([](Question& q) { q.queries[31] = HUGE_VALF; }), "user 1, interest 1");
  CHECK_THROWS(with([](Question& q) { q.weights[3] = -1; }), "weights: expected finite numbers >= 0");
  CHECK_THROWS(with([](Question& q) { q.weights[3] = std::nanf(""); }), "user 1, interest 1");
  CHECK_THROWS(with([](Question& q) { q.weights[2] = q.weights[3] = 0; }), "none in user 1");
  CHECK_THROWS(with([](Question& q) { q.weights.clear(); }), "weights: expected one per interest");
  CHECK_THROWS(Catalog(std::vector<float>(lsif::kMaxScoreDim + 1), lsif::kMaxScoreDim + 1), "dimensions, got 65537");
  CHECK_THROWS(with([](Question& q) { q.request.temperature = 0; }), "temperature: expected");
  CHECK_THROWS(with([](Question& q) { q.request.temperature = std::nan(""); }), "temperature: expected");
  CHECK_THROWS(with([](Question& q) {
                 q.exclude_items = {3, 50};
                 q.exclude_offsets = {0, 1, 2};
               }),
               "exclude_items: expected rows in [0, 50), got 50 for user 1");
  CHECK_THROWS(with([](Question& q) {
                 q.exclude_items = {-1};
                 q.exclude_offsets = {0, 1, 1};
               }),
               "got -1 for user 0");
  CHECK_THROWS(with([](Question& q) {
                 q.exclude_items = {1, 2};
                 q.exclude_offsets = {0, 2, 1};
               }),
               "exclude_offsets: expected non-decreasing values, got a decrease at position 2");
}

}  // namespace
