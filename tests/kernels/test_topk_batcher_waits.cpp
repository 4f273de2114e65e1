// Callers who wait for others to join: not past their deadlines, and not if nothing can be gained. A wait that must not
// happen is set to an hour, so that these tests would not end with it.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "topk_batcher_callers.h"

namespace {

using namespace topk_batcher_test;  // NOLINT: for brevity in tests
using std::chrono::milliseconds;

constexpr int64_t kHour = int64_t{3600} * 1000000;

// Two callers behind a search. When begin() returns, that search is over: the first in the queue leads and waits for
// more.
struct Pair {
  Busy busy;
  std::unique_ptr<TopkBatcher> batcher;
  std::atomic<int> num_answered{0};
  std::atomic<int> num_expired{0};
  std::atomic<int> num_closed{0};
  std::vector<std::thread> callers;

  void begin(const TopkBatcher::Limits& limits, const std::function<void()>& ask_one) {
    for (;;) {
      num_answered = num_expired = num_closed = 0;
      batcher = std::make_unique<TopkBatcher>(limits);
      std::atomic<bool> is_over{false};
      std::thread search([&] {
        Question slow(std::vector<float>(32 * kDim, 1.0f), kDim, 1, 10);
        ask(*batcher, busy.view, slow);
        is_over = true;
      });
      std::this_thread::sleep_for(milliseconds(5));
      for (int caller = 0; caller < 2; ++caller) callers.emplace_back([this, ask_one] { count(ask_one); });
      bool both_wait = false;
      while (!is_over && !both_wait) both_wait = batcher->stats().queued == 2;
      search.join();
      if (both_wait) return;
      batcher->close();  // the search was over too early: one of them may lead and wait
      end();
    }
  }

  void count(const std::function<void()>& ask_one) {
    try {
      ask_one();
      ++num_answered;
    } catch (const DeadlineExceeded&) {
      ++num_expired;
    } catch (const Closed&) {
      ++num_closed;
    }
  }

  void ask_for(uint64_t seed, TopkBatcher::Clock::time_point deadline = kNever) {
    Question question = random_question(seed);
    ask(*batcher, busy.view, question, deadline);
  }

  void end() {
    for (std::thread& caller : callers) caller.join();
    callers.clear();
  }
};

TEST(who_leads_waits_no_longer_than_the_deadlines) {
  for (milliseconds within(500);; within *= 2) {  // or the search was too long
    Pair pair;
    pair.begin({64, 1000, kHour, 1}, [&] { pair.ask_for(2, TopkBatcher::Clock::now() + within); });
    pair.end();
    CHECK(pair.num_answered + pair.num_expired == 2);
    if (pair.num_answered > 0) break;
  }
}

// The other's deadline is before that of the leader, if it leads, and after the search.
TEST(who_leads_does_not_let_the_others_expire) {
  for (milliseconds within(500);; within *= 2) {
    Pair pair;
    pair.begin({64, 1000, kHour, 1}, [&] { pair.ask_for(2, TopkBatcher::Clock::now() + within); });
    pair.end();
    if (pair.num_answered == 2) break;
    CHECK(within < milliseconds(60000));
  }
}

TEST(who_would_fill_a_batch_with_the_next_does_not_wait) {
  Pair pair;
  pair.begin({4, 1000, kHour, 1}, [&] { pair.ask_for(2); });  // three users each
  pair.end();
  CHECK(pair.num_answered == 2);
}

TEST(who_waits_goes_when_the_batch_is_full) {
  Pair pair;
  pair.begin({4, 1000, kHour, 1}, [&] { pair.ask_for(3); });  // one user each
  pair.ask_for(7);                                            // two users
  pair.end();
  const TopkBatcher::Stats stats = pair.batcher->stats();
  CHECK(pair.num_answered == 2 && stats.batches == 2 && stats.largest_batch == 3);
}

TEST(closing_ends_the_wait_for_more) {
  Pair pair;
  pair.begin({64, 1000, kHour, 1}, [&] { pair.ask_for(2); });
  pair.batcher->close();
  pair.end();
  CHECK(pair.num_closed == 1 && pair.num_answered == 1);  // who led was answered
}

#if !defined(__SANITIZE_THREAD__)  // which does not follow what a child does
TEST(a_child_gives_up_a_batcher_whose_callers_wait_in_the_parent) {
  Pair pair;
  pair.begin({64, 1000, kHour, 1}, [&] { pair.ask_for(2); });
  std::this_thread::sleep_for(milliseconds(20));  // until the first of them waits
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    pair.batcher.reset();
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  pair.batcher->close();
  pair.end();
}
#endif

}  // namespace
