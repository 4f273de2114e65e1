// Searches of concurrent callers: each gets exactly what it would get alone, whatever the others request.
#include <array>
#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "topk_batcher_callers.h"

namespace {

using namespace topk_batcher_test;  // NOLINT: for brevity in tests
using std::chrono::milliseconds;

TEST(everybody_gets_what_they_would_get_alone) {
  const Catalog first = random_catalog(1);
  const Catalog second = random_catalog(2);
  const CatalogView views[] = {first.view(), second.view()};
  for (const int searches : {1, 2}) {
    for (const int64_t wait : {0, 200}) {
      TopkBatcher batcher({8, 1000, wait, searches});
      std::atomic<int> num_different{0};
      std::vector<std::thread> callers;
      constexpr int kCallers = 8;
      constexpr int kCalls = 60;
      for (int caller = 0; caller < kCallers; ++caller) {
        callers.emplace_back([&, caller] {
          for (int call = 0; call < kCalls; ++call) {
            const auto seed = static_cast<uint64_t>(caller * kCalls + call);
            const CatalogView& view = views[seed % 7 == 0 ? 1 : 0];
            Question question = seed % 6 == 2 ? filtered_question(seed) : random_question(seed);
            const Result expected = run(seed % 7 == 0 ? second : first, question, lsif::cpu::kernels());
            num_different += !(ask(batcher, view, question) == expected);
          }
        });
      }
      for (std::thread& caller : callers) caller.join();
      CHECK(num_different == 0);
      const TopkBatcher::Stats stats = batcher.stats();
      CHECK(stats.requests == kCallers * kCalls);
      CHECK(stats.batches >= 1 && stats.batches <= stats.requests);
      CHECK(stats.largest_batch <= 8 && stats.queued == 0);
      CHECK(stats.sizes.size() == 5 && stats.sizes[4] == 0);  // 1, 2, 4, 8, more
      CHECK(std::accumulate(stats.sizes.begin(), stats.sizes.end(), int64_t{0}) == stats.batches);
    }
  }
}

// Sends all questions while a search of `busy` runs, so that the first in the queue takes the others along; tries again
// if that search ended too early. An answer without counts was refused.
std::vector<Result> ask_together(Busy& busy, TopkBatcher& batcher, const CatalogView& view,
                                 std::vector<Question> questions) {
  const auto num_questions = static_cast<int64_t>(questions.size());
  for (int attempt = 0; attempt < 1000; ++attempt) {
    const int64_t before = batcher.stats().batches;
    std::atomic<bool> is_over{false};
    std::thread other([&] {
      Question slow(std::vector<float>(16 * kDim, 1.0f), kDim, 1, 10);
      ask(batcher, busy.view, slow);
      is_over = true;
    });
    int64_t lone = 1;
    Question probe = random_question(4);
    while (!is_over && !throws<DeadlineExceeded>([&] { ask(batcher, view, probe, TopkBatcher::Clock::now()); })) {
      ++lone;
    }
    std::vector<Result> results(questions.size());
    std::vector<std::thread> callers;
    for (size_t i = 0; i < questions.size(); ++i) {
      callers.emplace_back(
          [&, i] { throws<std::invalid_argument>([&] { results[i] = ask(batcher, view, questions[i]); }); });
    }
    for (std::thread& caller : callers) caller.join();
    other.join();
    const TopkBatcher::Stats stats = batcher.stats();
    if (stats.largest_batch == num_questions && stats.batches == before + lone + 1) return results;
  }
  CHECK(!"they never shared a search");
  return std::vector<Result>(questions.size());
}

TEST(requests_that_share_a_search_keep_their_own_filters) {
  Busy busy;
  const Catalog catalog = random_catalog(1);
  TopkBatcher batcher({64, 1000, 0, 1});
  std::vector<Question> questions;
  for (const uint64_t seed : {3, 5, 15}) questions.push_back(random_question(seed));
  for (const uint64_t seed : {2, 8, 20}) questions.push_back(filtered_question(seed));
  const std::vector<Result> results = ask_together(busy, batcher, catalog.view(), questions);
  for (size_t i = 0; i < results.size(); ++i) {
    CHECK(results[i] == run(catalog, questions[i], lsif::cpu::kernels()));
  }
}

TEST(requests_for_very_many_results_are_searched_apart) {
  Busy busy;
  const Catalog catalog = random_catalog(1);
  const CatalogView view = catalog.view();
  for (const int64_t k : {TopkBatcher::kMostShared, TopkBatcher::kMostShared + 1}) {
    const bool may_share = k == TopkBatcher::kMostShared;
    std::atomic<int> num_different{0};
    int64_t largest = 1;
    for (int attempt = 0; attempt < (may_share ? 1000 : 1) && largest == 1; ++attempt) {
      TopkBatcher batcher({64, 1000, 0, 1});
      std::vector<std::thread> callers;
      busy.while_busy(batcher, [&] {
        for (uint64_t seed = 0; seed < 24; ++seed) {
          callers.emplace_back([&, seed] {
            Random random(seed);
            Question question(normals(random, kDim), kDim, 1, k);
            num_different += !(ask(batcher, view, question) == run(catalog, question, lsif::cpu::kernels()));
          });
        }
        for (std::thread& caller : callers) caller.join();
      });
      largest = batcher.stats().largest_batch;
    }
    CHECK(num_different == 0);
    CHECK((largest > 1) == may_share);
  }
}

TEST(a_shared_search_that_fails_is_made_again_for_each) {
  Busy busy;
  const Catalog catalog = random_catalog(1);
  for (size_t bad = 0; bad < 4; ++bad) {  // both as leader and not
    TopkBatcher batcher({64, 1000, 0, 1});
    std::vector<Question> questions;
    for (const uint64_t seed : {2, 3, 5}) questions.push_back(random_question(seed));
    questions.push_back(filtered_question(8));
    questions[bad].queries[3] = std::numeric_limits<float>::quiet_NaN();
    const std::vector<Result> results = ask_together(busy, batcher, catalog.view(), questions);
    for (size_t i = 0; i < results.size(); ++i) {
      CHECK(results[i] == (i == bad ? Result{} : run(catalog, questions[i], lsif::cpu::kernels())));
    }
  }
}

TEST(batches_are_counted_by_size) {
  Busy busy;
  const Catalog catalog = random_catalog(1);
  for (const auto& [max_batch, num_questions, buckets, bucket] :
       {std::array<int64_t, 4>{1, 1, 2, 0}, {2, 2, 3, 1}, {6, 3, 5, 2}, {64, 5, 8, 3}}) {
    TopkBatcher batcher({max_batch, 1000, 0, 1});
    const Question question(std::vector<float>(kDim, 1.0f), kDim, 1, 10);
    ask_together(busy, batcher, catalog.view(), std::vector<Question>(static_cast<size_t>(num_questions), question));
    const TopkBatcher::Stats stats = batcher.stats();
    CHECK(static_cast<int64_t>(stats.sizes.size()) == buckets);
    CHECK(stats.sizes[static_cast<size_t>(bucket)] >= 1 && stats.sizes[0] >= 1 && stats.sizes.back() == 0);
    CHECK(std::accumulate(stats.sizes.begin(), stats.sizes.end(), int64_t{0}) == stats.batches);
  }
}

TEST(a_request_whose_turn_does_not_come_is_told) {
  Busy busy;
  TopkBatcher batcher({8, 1000, 0, 1});
  busy.while_busy(batcher, [&] {
    bool expired = false;
    for (int attempt = 0; attempt < 200 && !expired; ++attempt) {
      Question question = random_question(4);
      expired = throws<DeadlineExceeded>([&] { ask(batcher, busy.view, question, TopkBatcher::Clock::now()); });
    }
    CHECK(expired);
    CHECK(batcher.stats().expired >= 1);
  });
}

TEST(a_full_queue_refuses) {
  Busy busy;
  TopkBatcher batcher({1, 1, 0, 1});  // no request can join another, one may wait
  std::atomic<int> refused{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 6; ++caller) {
    callers.emplace_back([&] {
      for (int call = 0; call < 30; ++call) {
        Question question = random_question(2);
        refused += throws<Overloaded>([&] { ask(batcher, busy.view, question); });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(refused > 0);
  CHECK(batcher.stats().overloaded == refused);
  CHECK(batcher.stats().requests == 6 * 30 - refused);
}

TEST(who_takes_a_place_counts_on_from_there) {
  const Catalog catalog = random_catalog(1);
  TopkBatcher first({2, 1000, 0, 1});
  TopkBatcher second({64, 1000, 0, 1});
  TopkBatcher third({1, 1000, 0, 1});
  for (TopkBatcher* batcher : {&first, &second, &third}) {
    Question question = random_question(2);
    ask(*batcher, catalog.view(), question);
  }
  for (int again = 0; again < 2; ++again) {
    second.count_on_from(first);
    third.count_on_from(second);
  }
  Question question = random_question(2);
  ask(first, catalog.view(), question);  // a late request
  for (const TopkBatcher* batcher : {&first, &second, &third}) {
    const TopkBatcher::Stats stats = batcher->stats();
    CHECK(stats.requests == 4 && stats.batches == 4 && stats.largest_batch == 1);
    CHECK(stats.sizes == std::vector<int64_t>({4, 0, 0, 0, 0, 0, 0, 0}));
  }
}

TEST(nothing_is_lost_that_is_asked_while_places_are_taken) {
  const Catalog catalog = random_catalog(1);
  std::vector<std::unique_ptr<TopkBatcher>> batchers;
  for (int i = 0; i < 20; ++i) batchers.push_back(std::make_unique<TopkBatcher>(TopkBatcher::Limits{8, 1000, 0, 1}));
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      for (size_t i = 0; i < 200; ++i) {
        Question question = random_question(2);
        ask(*batchers[(i + 7 * thread) % batchers.size()], catalog.view(), question);
      }
    });
  }
  for (size_t i = 1; i < batchers.size(); ++i) batchers[i]->count_on_from(*batchers[i - 1]);
  for (std::thread& thread : threads) thread.join();
  for (const auto& batcher : batchers) CHECK(batcher->stats().requests == 600);
}

TEST(one_request_that_cannot_be_answered_fails_alone) {
  const Catalog catalog = random_catalog(1);
  const CatalogView view = catalog.view();
  TopkBatcher batcher({16, 1000, 2000, 1});
  std::atomic<int> num_wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 6; ++caller) {
    callers.emplace_back([&, caller] {
      for (int call = 0; call < 20; ++call) {
        Question question = random_question(static_cast<uint64_t>(caller));
        if (caller == 0) {
          question.queries[0] = std::numeric_limits<float>::quiet_NaN();
          num_wrong += !throws<std::invalid_argument>([&] { ask(batcher, view, question); });
        } else {
          num_wrong += !(ask(batcher, view, question) == run(catalog, question, lsif::cpu::kernels()));
        }
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(num_wrong == 0);
}

TEST(closing_ends_what_waits_and_what_comes) {
  Busy busy;
  TopkBatcher batcher({8, 1000, 0, 1});
  busy.while_busy(batcher, [&] {
    std::atomic<int> num_closed{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; ++caller) {
      callers.emplace_back([&] {
        Question question = random_question(2);
        while (!throws<Closed>([&] { ask(batcher, busy.view, question); })) {
        }
        ++num_closed;
      });
    }
    std::this_thread::sleep_for(milliseconds(5));
    batcher.close();
    for (std::thread& caller : callers) caller.join();
    CHECK(num_closed == 4);
    Question question = random_question(2);
    CHECK(throws<Closed>([&] { ask(batcher, busy.view, question); }));
  });
}

TEST(limits_are_checked) {
  CHECK_THROWS(TopkBatcher({0, 1, 0, 1}), "batching: expected max_batch");
  CHECK_THROWS(TopkBatcher({1, 0, 0, 1}), "batching:");
  CHECK_THROWS(TopkBatcher({1, 1, -1, 1}), "batching:");
  CHECK_THROWS(TopkBatcher({1, 1, 0, 0}), "batching:");
}

}  // namespace
