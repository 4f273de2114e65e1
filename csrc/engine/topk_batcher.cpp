#include "engine/topk_batcher.h"

#include <unistd.h>

#include <algorithm>
#include <bit>

#include "engine/scratch.h"

namespace lsif::engine {
namespace {

// A leader that waits for more stops this long before a deadline in the queue, to search for that request in time.
constexpr std::chrono::milliseconds kBeforeDeadline{1};

// All requests of a batch are searched with the largest k among them, which must not cost those with a small k much
// more.
bool is_similar(int64_t a, int64_t b) {
  constexpr int64_t kSmall = 32;
  return std::max(a, b) <= std::max(kSmall, 2 * std::min(a, b)) && std::max(a, b) <= TopkBatcher::kMostShared;
}

// The exponent of the smallest power of two >= size, for size >= 1.
size_t power_of_two(int64_t size) { return static_cast<size_t>(std::bit_width(static_cast<uint64_t>(size - 1))); }

// The last count, for batches larger than all other sizes, stays last.
void add_sizes(const std::vector<int64_t>& more, std::vector<int64_t>& sizes) {
  if (sizes.size() < more.size()) sizes.insert(sizes.end() - 1, more.size() - sizes.size(), 0);
  for (size_t i = 0; i + 1 < more.size(); ++i) sizes[i] += more[i];
  sizes.back() += more.back();
}

}  // namespace

void TopkBatcher::Tickets::push_back(Ticket& ticket) {
  ticket.next = nullptr;
  (last == nullptr ? first : last->next) = &ticket;
  last = &ticket;
  ++size;
  num_users += ticket.request->batch;
}

TopkBatcher::Ticket& TopkBatcher::Tickets::pop_front() {
  Ticket& ticket = *first;
  first = ticket.next;
  if (first == nullptr) last = nullptr;
  --size;
  num_users -= ticket.request->batch;
  return ticket;
}

void TopkBatcher::Tickets::remove(const Ticket& ticket) {
  Ticket* before = nullptr;
  Ticket** link = &first;
  while (*link != &ticket) {
    before = *link;
    link = &before->next;
  }
  *link = ticket.next;
  if (last == &ticket) last = before;
  --size;
  num_users -= ticket.request->batch;
}

TopkBatcher::TopkBatcher(const Limits& limits) : limits_(limits), process_(getpid()) {
  if (limits.max_batch < 1 || limits.max_queue < 1 || limits.max_wait_us < 0 || limits.max_searches < 1) {
    throw std::invalid_argument("batching: expected max_batch, max_queue and max_searches >= 1 and max_wait_us >= 0");
  }
  counters_->stats.sizes.resize(power_of_two(limits.max_batch) + 2);
}

// In a forked child, destroying a condition variable would wait for waiters that exist only in the parent.
TopkBatcher::~TopkBatcher() {
  close();
  if (getpid() != process_) (void)sync_.release();
}

void TopkBatcher::score_topk(const CatalogView& catalog, const ScoreTopkRequest& request, Clock::time_point deadline,
                             float* scores, int64_t* indices, int64_t* counts) {
  // A forked child has a copy of the lock as it was at the fork, perhaps held by a thread that only the parent has.
  if (getpid() != process_) throw Closed("batching: this recommender was made before a fork; load it in the child");
  Ticket mine{&catalog, &request, deadline, scores, indices, counts, State::kWaiting, nullptr, {}};
  std::unique_lock<std::mutex> lock(sync_->mutex);
  if (is_closed_) throw Closed("batching: closed");
  if (num_searching_ < limits_.max_searches) {
    ++num_searching_;
    mine.state = State::kLeads;
  } else {
    wait_for_turn(mine, lock);
  }
  if (mine.state == State::kLeads) lead(mine, lock);
  lock.unlock();
  if (mine.state == State::kExpired) throw DeadlineExceeded("timeout: the request's turn did not come in time");
  if (mine.state == State::kClosed) throw Closed("batching: closed");
  if (mine.error != nullptr) std::rethrow_exception(mine.error);
}

void TopkBatcher::wait_for_turn(Ticket& mine, std::unique_lock<std::mutex>& lock) {
  if (queue_.size >= limits_.max_queue) {
    count([](Stats& stats) { ++stats.overloaded; });
    throw Overloaded("batching: " + std::to_string(limits_.max_queue) + " requests wait already (max_queue)");
  }
  queue_.push_back(mine);
  sync_->changed.notify_all();
  while (mine.state == State::kWaiting && mine.changed.wait_until(lock, mine.deadline) != std::cv_status::timeout) {
  }
  if (mine.state == State::kWaiting) {
    queue_.remove(mine);
    sync_->changed.notify_all();
    expire(mine);
  }
  mine.changed.wait(lock, [&] { return mine.state != State::kTaken; });
}

// Searches for the caller and for queued requests that can join, then makes the next in the queue the leader.
void TopkBatcher::lead(Ticket& mine, std::unique_lock<std::mutex>& lock) {
  Tickets batch = gather(mine, lock);
  lock.unlock();
  search(batch);
  lock.lock();
  count([size = batch.size](Stats& stats) {
    ++stats.batches;
    stats.requests += size;
    stats.largest_batch = std::max(stats.largest_batch, size);
    ++stats.sizes[std::min(power_of_two(size), stats.sizes.size() - 1)];
  });
  while (batch.size > 0) finish(batch.pop_front(), State::kDone);
  if (queue_.size == 0) {
    if (--num_searching_ == 0) sync_->idle.notify_all();
    return;
  }
  Ticket& next = queue_.pop_front();
  next.state = State::kLeads;
  next.changed.notify_one();
}

TopkBatcher::Tickets TopkBatcher::gather(Ticket& mine, std::unique_lock<std::mutex>& lock) {
  if (limits_.max_wait_us > 0) wait_for_more(mine, lock);
  Tickets batch;
  batch.push_back(mine);
  int64_t users = mine.request->batch;
  const Clock::time_point now = Clock::now();
  Tickets left;
  while (queue_.size > 0) {
    Ticket& ticket = queue_.pop_front();
    const ScoreTopkRequest& request = *ticket.request;
    if (ticket.deadline < now) {
      expire(ticket);
    } else if (ticket.catalog == mine.catalog && request.error_share == mine.request->error_share &&
               is_similar(request.k, mine.request->k) && users + request.batch <= limits_.max_batch) {
      users += request.batch;
      ticket.state = State::kTaken;
      batch.push_back(ticket);
    } else {
      left.push_back(ticket);
    }
  }
  queue_ = left;
  sync_->changed.notify_all();
  return batch;
}

// The leader waits for others to join, but not past a deadline, nor once the queue is empty.
void TopkBatcher::wait_for_more(const Ticket& mine, std::unique_lock<std::mutex>& lock) {
  const Clock::time_point latest = Clock::now() + std::chrono::microseconds(limits_.max_wait_us);
  while (!is_closed_ && queue_.size > 0 && queue_.num_users + mine.request->batch < limits_.max_batch) {
    Clock::time_point until = std::min(latest, mine.deadline);
    for (const Ticket* ticket = queue_.first; ticket != nullptr; ticket = ticket->next) {
      until = std::min(until, ticket->deadline - kBeforeDeadline);
    }
    if (sync_->changed.wait_until(lock, until) == std::cv_status::timeout) return;
  }
}

// Call it with the lock held: otherwise the owner may destroy the ticket before notify_one. The owner creates its
// exception: here that might run out of memory and leave the rest of a batch waiting.
void TopkBatcher::finish(Ticket& ticket, State state) {
  ticket.state = state;
  ticket.changed.notify_one();
}

void TopkBatcher::expire(Ticket& ticket) {
  count([](Stats& stats) { ++stats.expired; });
  finish(ticket, State::kExpired);
}

void TopkBatcher::search(const Tickets& batch) {
  if (batch.size > 1) {
    try {
      return search_together(batch);
    } catch (...) {  // one of them is invalid: search each alone to find out whose
    }
  }
  for (Ticket* ticket = batch.first; ticket != nullptr; ticket = ticket->next) search_alone(*ticket);
}

void TopkBatcher::search_alone(Ticket& ticket) {
  try {
    engine::score_topk(*ticket.catalog, *ticket.request, ticket.scores, ticket.indices, ticket.counts);
  } catch (...) {
    ticket.error = std::current_exception();
  }
}

void TopkBatcher::search_together(const Tickets& batch) {
  Scratch scratch;
  const ScoreTopkRequest all = put_together(batch, scratch);
  float* scores = scratch.floats(all.batch * all.k);
  int64_t* indices = scratch.ints(all.batch * all.k);
  int64_t* counts = scratch.ints(all.batch);
  engine::score_topk(*batch.first->catalog, all, scores, indices, counts);
  int64_t user = 0;
  for (const Ticket* ticket = batch.first; ticket != nullptr; ticket = ticket->next) {
    // The first k of the best all.k are the best k.
    const int64_t k = ticket->request->k;
    for (int64_t b = 0; b < ticket->request->batch; ++b, ++user) {
      std::copy_n(scores + user * all.k, k, ticket->scores + b * k);
      std::copy_n(indices + user * all.k, k, ticket->indices + b * k);
      ticket->counts[b] = std::min(counts[user], k);
    }
  }
}

// One request for all users, with the largest k; its arrays are in `scratch`.
ScoreTopkRequest TopkBatcher::put_together(const Tickets& batch, Scratch& scratch) {
  ScoreTopkRequest all = *batch.first->request;
  all.batch = all.k = 0;
  int64_t num_excluded = 0;
  for (const Ticket* ticket = batch.first; ticket != nullptr; ticket = ticket->next) {
    const ScoreTopkRequest& request = *ticket->request;
    all.batch += request.batch;
    all.k = std::max(all.k, request.k);
    if (request.exclude_items != nullptr) num_excluded += request.exclude_offsets[request.batch];
  }
  const int64_t width = all.num_interests * batch.first->catalog->dim;
  float* vectors = scratch.floats(all.batch * width);
  float* weights = all.weights == nullptr ? nullptr : scratch.floats(all.batch * all.num_interests);
  int64_t* excluded = scratch.ints(num_excluded);
  int64_t* offsets = scratch.ints(all.batch + 1);
  auto** allowed = scratch.array<const uint64_t*>(all.batch);
  all.vectors = vectors;
  all.weights = weights;
  all.exclude_items = excluded;
  all.exclude_offsets = offsets;
  all.allowed = allowed;
  *offsets = 0;
  for (const Ticket* ticket = batch.first; ticket != nullptr; ticket = ticket->next) {
    const ScoreTopkRequest& request = *ticket->request;
    vectors = std::copy_n(request.vectors, request.batch * width, vectors);
    if (weights != nullptr) weights = std::copy_n(request.weights, request.batch * all.num_interests, weights);
    for (int64_t b = 0; b < request.batch; ++b, ++offsets) {
      int64_t count = 0;
      if (request.exclude_items != nullptr) {
        count = request.exclude_offsets[b + 1] - request.exclude_offsets[b];
        excluded = std::copy_n(request.exclude_items + request.exclude_offsets[b], count, excluded);
      }
      offsets[1] = offsets[0] + count;
      *allowed++ = request.allowed == nullptr ? nullptr : request.allowed[b];
    }
  }
  return all;
}

void TopkBatcher::close() {
  if (getpid() != process_) return;
  std::unique_lock<std::mutex> lock(sync_->mutex);
  is_closed_ = true;
  while (queue_.size > 0) finish(queue_.pop_front(), State::kClosed);
  sync_->changed.notify_all();
  sync_->idle.wait(lock, [&] { return num_searching_ == 0; });
}

void TopkBatcher::count_on_from(const TopkBatcher& before) {
  if (getpid() != process_ || getpid() != before.process_) return;
  std::unique_lock<std::mutex> lock(before.sync_->mutex);
  const std::shared_ptr<Counters> shared = before.counters_;
  lock.unlock();
  lock = std::unique_lock<std::mutex>(sync_->mutex);
  if (shared == counters_) return;
  {
    const std::scoped_lock both(shared->mutex, counters_->mutex);
    const Stats& mine = counters_->stats;
    Stats& all = shared->stats;
    all.requests += mine.requests;
    all.batches += mine.batches;
    all.largest_batch = std::max(all.largest_batch, mine.largest_batch);
    all.overloaded += mine.overloaded;
    all.expired += mine.expired;
    add_sizes(mine.sizes, all.sizes);
  }
  counters_ = shared;
}

TopkBatcher::Stats TopkBatcher::stats() const {
  Stats stats;
  if (getpid() != process_) {
    stats.sizes.resize(power_of_two(limits_.max_batch) + 2);
    return stats;
  }
  const std::lock_guard<std::mutex> lock(sync_->mutex);
  const std::lock_guard<std::mutex> of_counters(counters_->mutex);
  stats = counters_->stats;
  stats.queued = queue_.size;
  return stats;
}

}  // namespace lsif::engine
