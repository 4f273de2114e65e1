#include "engine/thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "engine/cpu_quota.h"
#include "engine/refuse.h"

namespace lsif::engine {
namespace {

constexpr int kMaxWorkers = 512;

// Whether this thread is running a task of a pool; it must then not use the pool again.
thread_local bool is_in_task = false;

void run_in_order(int64_t num_tasks, TaskRef fn) {
  for (int64_t task = 0; task < num_tasks; ++task) fn(task);
}

// A running parallel_for. Threads take tasks until none is left.
class Job {
 public:
  Job(int64_t num_tasks, TaskRef fn) : fn_(fn), num_tasks_(num_tasks) {}

  void take_tasks() {
    is_in_task = true;
    try {
      for (;;) {
        const int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
        if (task >= num_tasks_) break;
        fn_(task);
      }
    } catch (...) {
      next_.store(num_tasks_, std::memory_order_relaxed);
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    is_in_task = false;
  }

  // Call only after all threads have left.
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  TaskRef fn_;
  int64_t num_tasks_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

class Pool {
 public:
  Pool() : pid_(getpid()) {}

  bool is_of_this_process() const { return pid_ == getpid(); }

  // Returns false, having done nothing, if the pool is busy or has no workers.
  bool run(int64_t num_tasks, int threads, TaskRef fn) {
    const std::unique_lock busy(busy_, std::try_to_lock);
    if (!busy.owns_lock()) return false;
    const int helpers = static_cast<int>(std::min<int64_t>(std::min(threads - 1, kMaxWorkers), num_tasks - 1));
    start_workers(helpers);
    if (workers_.empty()) return false;
    Job job(num_tasks, fn);
    {
      const std::lock_guard lock(mutex_);
      job_ = &job;
      free_places_ = helpers;
    }
    if (helpers < static_cast<int>(workers_.size())) {
      for (int i = 0; i < helpers; ++i) work_.notify_one();
    } else {
      work_.notify_all();
    }
    job.take_tasks();
    {
      // Workers that have not joined yet can no longer do so.
      std::unique_lock lock(mutex_);
      free_places_ = 0;
      done_.wait(lock, [&] { return num_helping_ == 0; });
      job_ = nullptr;
    }
    job.rethrow();
    return true;
  }

  // Waits for the running job, joins the workers, and stays busy forever: later callers do their own work.
  void stop() {
    busy_.lock();
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

 private:
  void start_workers(int count) {
    while (static_cast<int>(workers_.size()) < count) {
      try {
        workers_.emplace_back([this] { work(); });
      } catch (const std::system_error&) {
        return;  // system limit reached: use the threads started so far
      }
    }
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_.wait(lock, [&] { return stopping_ || free_places_ > 0; });
      if (stopping_) return;
      --free_places_;
      ++num_helping_;
      Job& job = *job_;
      lock.unlock();
      job.take_tasks();
      lock.lock();
      if (--num_helping_ == 0) done_.notify_one();
    }
  }

  const pid_t pid_;
  std::mutex busy_;  // held by the caller whose job is running
  std::vector<std::thread> workers_;
  std::mutex mutex_;  // guards everything below
  std::condition_variable work_;
  std::condition_variable done_;
  Job* job_ = nullptr;
  int free_places_ = 0;
  int num_helping_ = 0;
  bool stopping_ = false;
};

// Pools are never freed: at exit a thread may still be about to use one, and a forked child must not touch its
// parent's.
std::atomic<Pool*> current_pool{nullptr};

struct StopAtExit {
  ~StopAtExit() {
    Pool* pool = current_pool.load();
    if (pool != nullptr && pool->is_of_this_process()) pool->stop();
  }
};
const StopAtExit stop_at_exit;

Pool& pool_of_this_process() {
  Pool* pool = current_pool.load(std::memory_order_acquire);
  if (pool != nullptr && pool->is_of_this_process()) return *pool;
  auto fresh = std::make_unique<Pool>();
  if (current_pool.compare_exchange_strong(pool, fresh.get())) return *fresh.release();
  return *pool;  // another thread was faster
}

int affinity_size() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

void parallel_for(int64_t num_tasks, int threads, TaskRef fn) {
  if (threads > 1 && num_tasks > 1 && !is_in_task && pool_of_this_process().run(num_tasks, threads, fn)) return;
  run_in_order(num_tasks, fn);
}

int default_threads() {
  static const double quota = cpu_quota();
  return threads_within(quota, affinity_size());
}

int check_threads(int64_t threads) {
  if (threads < 0 || threads > 4096) refuse("threads", "an integer in [0, 4096]", std::to_string(threads));
  return threads == 0 ? default_threads() : static_cast<int>(threads);
}

}  // namespace lsif::engine
