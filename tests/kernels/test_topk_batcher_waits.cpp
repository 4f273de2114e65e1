// Callers who wait for others to join: not past their deadlines, and not if nothing can be gained. A wait that must not
// happen is set to an hour, so that these tests would not end with it.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "topk_batcher_callers.h"

namespace {

using namespace topk_batcher_test;  // NOLINT: for brevity in tests
using std::chrono::milliseconds;

constexpr int64_t kHour = int64_t{3600} * 1000000;

// Runs `ask_one` in two threads that queue behind a search. On return that search is over, so that the first in the
// queue leads and may wait for others while the second is queued. Tries again if the search ended too early.
template <typename Ask>
std::vector<std::thread> ask_behind_a_search(Busy& busy, TopkBatcher& batcher, Ask ask_one) {
  for (;;) {
    std::atomic<bool> is_over{false};
    std::thread search([&] {
      Question slow(std::vector<float>(32 * kDim, 1.0f), kDim, 1, 10);
      ask(batcher, busy.view, slow);
      is_over = true;
    });
    std::this_thread::sleep_for(milliseconds(5));
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 2; ++caller) callers.emplace_back(ask_one);
    bool both_wait = false;
    while (!is_over && !both_wait) both_wait = batcher.stats().queued == 2;
    search.join();
    if (both_wait) return callers;
    for (std::thread& caller : callers) caller.join();
  }
}

TEST(who_leads_waits_no_longer_than_the_deadline) {
  Busy busy;
  TopkBatcher batcher({64, 1000, kHour, 1});
  std::atomic<int> num_answered{0};
  for (milliseconds within(500); num_answered == 0; within *= 2) {  // doubles if the search took too long
    std::vector<std::thread> callers = ask_behind_a_search(busy, batcher, [&] {
      Question question = random_question(2);
      const auto deadline = TopkBatcher::Clock::now() + within;
      num_answered += !throws<DeadlineExceeded>([&] { ask(batcher, busy.view, question, deadline); });
    });
    for (std::thread& caller : callers) caller.join();
  }
}

TEST(who_would_fill_a_batch_with_the_next_does_not_wait) {
  Busy busy;
  TopkBatcher batcher({4, 1000, kHour, 1});  // 4 users per batch
  std::vector<std::thread> callers = ask_behind_a_search(busy, batcher, [&] {
    Question question = random_question(2);
    CHECK(question.request.batch == 3);
    ask(batcher, busy.view, question);
  });
  for (std::thread& caller : callers) caller.join();
  CHECK(batcher.stats().expired == 0 && batcher.stats().queued == 0);
}

TEST(closing_ends_the_wait_for_more) {
  Busy busy;
  TopkBatcher batcher({64, 1000, kHour, 1});
  std::atomic<int> num_closed{0};
  std::vector<std::thread> callers = ask_behind_a_search(busy, batcher, [&] {
    Question question = random_question(2);
    num_closed += throws<Closed>([&] { ask(batcher, busy.view, question); });
  });
  batcher.close();
  for (std::thread& caller : callers) caller.join();
  CHECK(num_closed == 1);  // the other was the leader, and was answered
}

#if !defined(__SANITIZE_THREAD__)  // it does not follow a child process
TEST(a_child_gives_up_a_batcher_whose_callers_wait_in_the_parent) {
  Busy busy;
  auto batcher = std::make_unique<TopkBatcher>(TopkBatcher::Limits{64, 1000, kHour, 1});
  std::vector<std::thread> callers = ask_behind_a_search(busy, *batcher, [&] {
    Question question = random_question(2);
    (void)throws<Closed>([&] { ask(*batcher, busy.view, question); });
  });
  std::this_thread::sleep_for(milliseconds(20));  // until the first of them waits
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    batcher.reset();
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  batcher->close();
  for (std::thread& caller : callers) caller.join();
}
#endif

}  // namespace
