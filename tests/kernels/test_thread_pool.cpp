#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <limits>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"
#include "engine/cpu_quota.h"
#include "engine/thread_pool.h"

namespace {

using lsif::engine::default_threads;
using lsif::engine::parallel_for;

// Whether each task runs exactly once.
bool runs_each_task_once(int64_t num_tasks, int threads) {
  std::vector<std::atomic<int>> runs(static_cast<size_t>(num_tasks));
  parallel_for(num_tasks, threads, [&](int64_t task) { ++runs[task]; });
  for (const std::atomic<int>& count : runs) {
    if (count != 1) return false;
  }
  return true;
}

TEST(each_task_once) {
  for (const int threads : {-1, 0, 1, 2, 3, 8, 33}) {
    for (const int64_t num_tasks : {0, 1, 2, 3, 100, 5000}) CHECK(runs_each_task_once(num_tasks, threads));
  }
}

TEST(one_thread_runs_inline_in_order) {
  std::vector<int64_t> order;
  const std::thread::id caller = std::this_thread::get_id();
  parallel_for(10, 1, [&](int64_t task) {
    CHECK(std::this_thread::get_id() == caller);
    order.push_back(task);
  });
  CHECK((order == std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

// Each task waits for the other, so this ends only if both run at once.
void run_two_at_the_same_time() {
  std::atomic<int> arrived{0};
  parallel_for(2, 2, [&](int64_t) {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
  });
  CHECK(arrived == 2);
}

TEST(several_threads_work_at_the_same_time) {
  run_two_at_the_same_time();
  // Also after a task that called parallel_for itself, and after one that failed.
  std::atomic<int> num_elsewhere{0};
  parallel_for(20, 2, [&](int64_t) {
    const std::thread::id outer = std::this_thread::get_id();
    parallel_for(5, 2, [&](int64_t) { num_elsewhere += std::this_thread::get_id() != outer; });
  });
  CHECK(num_elsewhere == 0);
  run_two_at_the_same_time();
  try {
    parallel_for(20, 2, [](int64_t) { throw std::runtime_error("no"); });
  } catch (const std::runtime_error&) {
  }
  run_two_at_the_same_time();
}

TEST(exceptions_reach_the_caller) {
  for (const int threads : {1, 2, 4}) {
    std::atomic<int> begun{0};
    bool caught = false;
    try {
      parallel_for(100000, threads, [&](int64_t task) {
        ++begun;
        if (task == 5) throw std::runtime_error("five");
      });
    } catch (const std::runtime_error& error) {
      caught = std::string(error.what()) == "five";
    }
    CHECK(caught);
    CHECK(begun < 100000);
    CHECK(runs_each_task_once(100, threads));
  }
}

TEST(nested_calls_and_concurrent_callers) {
  std::vector<std::thread> callers;
  std::atomic<int64_t> total{0};
  for (int i = 0; i < 6; ++i) {
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 200; ++repeat) {
        parallel_for(5, 3, [&](int64_t) { parallel_for(4, 2, [&](int64_t task) { total += task; }); });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(total == 6 * 200 * 5 * (0 + 1 + 2 + 3));
}

#if !defined(__SANITIZE_THREAD__)  // it does not follow threads started after a fork
int exit_status_of(pid_t child) {
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(a_forked_child_has_a_working_pool) {
  CHECK(runs_each_task_once(100, 3));
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(runs_each_task_once(1000, 3) ? 0 : 1);
  }
  CHECK(exit_status_of(child) == 0);
}

TEST(a_fork_while_the_pool_is_busy) {
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) parallel_for(50, 2, [](int64_t) {});
  });
  for (int i = 0; i < 10; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      _exit(runs_each_task_once(100, 2) ? 0 : 1);
    }
    CHECK(exit_status_of(child) == 0);
  }
  stop = true;
  busy.join();
}
#endif

TEST(threads_make_use_of_a_part_of_a_processor) {
  using lsif::engine::threads_within;
  CHECK(threads_within(0.1, 8) == 1 && threads_within(1.0, 8) == 1 && threads_within(1.5, 8) == 2);
  CHECK(threads_within(8.0, 8) == 8 && threads_within(7.01, 8) == 8);
  CHECK(threads_within(std::numeric_limits<double>::infinity(), 3) == 3);
}

TEST(default_threads_is_sane) {
  CHECK(default_threads() >= 1);
  CHECK(default_threads() <= static_cast<int>(sysconf(_SC_NPROCESSORS_CONF)));
}

}  // namespace
