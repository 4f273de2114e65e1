// Combines searches of concurrent callers into batches that read the catalogue once            (docs/serving.md)
//
// There is no thread of its own: a caller who finds no search running searches at once, alone. Callers who arrive
// meanwhile queue; when the search is done, the first in the queue also searches for others in it. So a lone caller
// never waits, and batches grow with the load.
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
// The request's turn did not come before its deadline.
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
    int64_t max_batch = 64;    // users per search
    int64_t max_queue = 1024;  // requests waiting
    int64_t max_wait_us = 0;   // how long the first in the queue waits for more requests, if others are queued already
    int max_searches = 1;      // concurrent searches
  };

  struct Stats {
    int64_t requests = 0;  // answered
    int64_t batches = 0;
    int64_t largest_batch = 0;  // in requests
    int64_t overloaded = 0;     // refused
    int64_t expired = 0;
    int64_t queued = 0;  // now
    // Batches by size in requests: at most 1, 2, 4 and so on up to the first power of two >= max_batch, then one count
    // for larger batches, which can occur because requests may have no users.
    std::vector<int64_t> sizes;
  };

  explicit TopkBatcher(const Limits& limits);
  const Limits& limits() const { return limits_; }
  ~TopkBatcher();
  TopkBatcher(const TopkBatcher&) = delete;
  TopkBatcher& operator=(const TopkBatcher&) = delete;

  // The results of score_topk, for any number of concurrent callers. All must have the same num_interests and
  // temperature, and all or none weights. Requests with another catalogue, another error_share, a very different k or
  // more than kMostShared results are searched separately. A request's error does not affect the others. Besides what
  // score_topk throws, throws Overloaded, DeadlineExceeded (only before the search begins) and Closed.
  void score_topk(const CatalogView& catalog, const ScoreTopkRequest& request, Clock::time_point deadline,
                  float* scores, int64_t* indices, int64_t* counts);

  // Refuses new and waiting requests, and returns when no search is running.
  void close();

  // Takes the place of `before`: from now on both report, in stats(), the sum of all that either has counted or will
  // count, including requests that `before` has not answered yet. Does nothing if they are of different processes. Two
  // batchers must not replace each other at the same time.
  void count_on_from(const TopkBatcher& before);

  Stats stats() const;

  static constexpr int64_t kMostShared = 1024;

 private:
  enum class State { kWaiting, kLeads, kTaken, kDone, kExpired, kClosed };

  // A caller's request, on the caller's stack while it waits.
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

  // Tickets in order of arrival, as an intrusive list: nothing is allocated.
  struct Tickets {
    Ticket* first = nullptr;
    Ticket* last = nullptr;
    int64_t size = 0;
    int64_t num_users = 0;

    void push_back(Ticket& ticket);
    Ticket& pop_front();                // the list must not be empty
    void remove(const Ticket& ticket);  // must be in the list
  };

  struct Sync {
    std::mutex mutex;
    std::condition_variable changed;  // the queue, or is_closed_
    std::condition_variable idle;
  };

  // Shared by this batcher and those it replaced. Its mutex is locked after the batcher's.
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
