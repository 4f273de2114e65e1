// Searches of concurrent callers, put together into batches that read the catalogue once       (docs/serving.md)
//
// There is no thread of its own: a caller who finds nobody searching searches at once, alone. Who comes meanwhile
// queues; when the search is done, the first in the queue takes the others along. So a lone caller never waits, and
// batches grow by themselves with the load.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "engine/score_topk.h"

namespace lsif::engine {

class Scratch;

// The queue is full.
struct Overloaded : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// The request's turn did not come in time.
struct DeadlineExceeded : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// close() has been called.
struct Closed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class TopkBatcher {
 public:
  using Clock = std::chrono::steady_clock;

  struct Limits {
    int64_t max_batch = 64;    // users searched for at once
    int64_t max_queue = 1024;  // requests that wait
    int64_t max_wait_us = 0;   // that the first of a queue waits for more, while there is a queue
    int max_searches = 1;      // at the same time
  };

  struct Stats {
    int64_t requests = 0;  // answered
    int64_t batches = 0;
    int64_t largest_batch = 0;  // in requests
    int64_t overloaded = 0;     // refused
    int64_t expired = 0;
    int64_t queued = 0;  // now
    // Batches by size in requests: up to 1, 2, 4 and so on to the first power of two that is not below max_batch, and
    // one count for larger ones, of requests without users.
    std::vector<int64_t> sizes;
  };

  explicit TopkBatcher(const Limits& limits);
  const Limits& limits() const { return limits_; }
  ~TopkBatcher();
  TopkBatcher(const TopkBatcher&) = delete;
  TopkBatcher& operator=(const TopkBatcher&) = delete;

  // What score_topk gives, for any number of callers at once. All of them have the same num_interests and temperature
  // and all or none have weights; requests of another catalogue, of another error_share, of a very different
  // k or for more than kMostShared results are searched apart. One request's error is its own. Throws Overloaded,
  // DeadlineExceeded (only before the search begins) and Closed beside what score_topk throws.
  void score_topk(const CatalogView& catalog, const ScoreTopkRequest& request, Clock::time_point deadline,
                  float* scores, int64_t* indices, int64_t* counts);

  // Refuses further requests and those that wait, and returns when no search runs.
  void close();

  // Takes the place of `before`: what both have counted and will count, requests that `before` has not answered yet
  // among them, is counted together from now on, in the stats of both. Nothing where they are of different processes.
  // Not for two that take each other's place at once.
  void count_on_from(const TopkBatcher& before);

  Stats stats() const;

  static constexpr int64_t kMostShared = 1024;

 private:
  enum class State { kWaiting, kLeads, kTaken, kDone, kExpired, kClosed };

  // A caller's request, on its stack while it waits.
  struct Ticket {
    const CatalogView* catalog;
    const ScoreTopkRequest* request;
    Clock::time_point deadline;
    float* scores;
    int64_t* indices;
    int64_t* counts;
    State state = State::kWaiting;
    std::exception_ptr error;
    std::condition_variable changed;
    Ticket* next = nullptr;  // in the one list it is in
  };

  // Tickets in the order they came, linked through themselves: nothing is allocated.
  struct Tickets {
    Ticket* first = nullptr;
    Ticket* last = nullptr;
    int64_t size = 0;
    int64_t num_users = 0;

    void push_back(Ticket& ticket);
    Ticket& pop_front();                // not of an empty list
    void remove(const Ticket& ticket);  // which is in the list
  };

  struct Sync {
    std::mutex mutex;
    std::condition_variable arrived;
    std::condition_variable idle;
  };

  // Of this batcher and those it took the place of. Locked after the batcher's mutex.
  struct Counters {
    std::mutex mutex;
    Stats stats;
  };

  template <typename Change>
  void count(Change change) {
    const std::lock_guard<std::mutex> lock(counters_->mutex);
    change(counters_->stats);
  }

  void wait_for_turn(Ticket& mine, std::unique_lock<std::mutex>& lock);
  void lead(Ticket& mine, std::unique_lock<std::mutex>& lock);
  Tickets gather(Ticket& mine, std::unique_lock<std::mutex>& lock);
  void wait_for_more(const Ticket& mine, std::unique_lock<std::mutex>& lock);
  void expire(Ticket& ticket);
  static void finish(Ticket& ticket, State state);
  static void search(const Tickets& batch);
  static void search_together(const Tickets& batch);
  static ScoreTopkRequest put_together(const Tickets& batch, Scratch& scratch);
  static void search_alone(Ticket& ticket);

  const Limits limits_;
  const pid_t process_;
  std::unique_ptr<Sync> sync_ = std::make_unique<Sync>();
  Tickets queue_;
  int num_searching_ = 0;
  bool is_closed_ = false;
  std::shared_ptr<Counters> counters_ = std::make_shared<Counters>();
};

}  // namespace lsif::engine
