// Callers who wait for others to go along: not past their deadlines, nor where nothing is to be gained. An hour stands
// for a wait that must not happen: with it these tests would not end.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "topk_batcher_callers.h"

namespace {

using namespace topk_batcher_test;  // NOLINT: what these tests are written in
using std::chrono::milliseconds;

constexpr int64_t kHour = int64_t{3600} * 1000000;

// Runs `ask_one` in two threads that queue behind a search; when this returns, that search is over, so that the first
// in the queue leads and has the other to wait for. Again, should the search have been over too early.
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
  for (milliseconds within(500); num_answered == 0; within *= 2) {  // or the search was too long
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
  TopkBatcher batcher({4, 1000, kHour, 1});  // users
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
  CHECK(num_closed == 1);  // the other led, and was answered
}

#if !defined(__SANITIZE_THREAD__)  // which does not follow what a child does
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
