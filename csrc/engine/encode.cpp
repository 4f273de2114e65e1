#include "engine/encode.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "engine/blocks.h"
#include "engine/ragged.h"
#include "engine/refuse.h"
#include "engine/scratch.h"
#include "engine/thread_pool.h"
#include "kernels/cpu/dispatch.h"

namespace lsif::engine {
namespace {

struct History {
  const int64_t* items;
  const int64_t* times;    // or null
  const int64_t* actions;  // or null
  int64_t seq_len;
  int64_t now;
};

class UserEncoder {
 public:
  UserEncoder(const Model& model, const History& history)
      : model_(model), c_(model.config()), history_(history), kernels_(cpu::kernels()), seq_len_(history.seq_len) {
    num_states_ = std::min(seq_len_, c_.num_short > 0 ? c_.short_window : 1);
  }

  void run(const Encoded& user) {
    float* x = scratch_.floats(seq_len_ * c_.dim);
    kernels_.embedding(model_.embedding(), history_.items, history_.actions, seq_len_, x, c_.dim);
    if (c_.num_long > 0) pool_long(x, user.interests);
    const int64_t num_rows = num_block_rows(c_, seq_len_, num_states_);
    const int64_t first = seq_len_ - num_rows;
    const int64_t* times = c_.use_times && history_.times ? history_.times + first : nullptr;
    const BlockRows rows = {history_.items + first, times, times ? query_times(times, num_rows) : nullptr, num_rows,
                            num_states_};
    run_blocks(model_, rows, x + first * c_.dim, scratch_);
    float* states = x + (seq_len_ - num_states_) * c_.dim;
    kernels_.layer_norm(model_.norm(), states, c_.dim, nullptr, 0, states, c_.dim, num_states_);
    const int64_t newest = history_.times ? history_.times[seq_len_ - 1] : kUnknownTime;
    fuse(model_, states, num_states_, {newest, history_.now, seq_len_}, user, scratch_);
  }

 private:
  void pool_long(const float* x, float* long_interests) {
    const Scratch::Mark mark(scratch_);
    float* pooled = scratch_.floats(c_.num_long * c_.dim);
    float* scratch = scratch_.floats(interest_pooling_scratch_size(model_.long_pooling()));
    const int64_t* times = c_.use_times ? history_.times : nullptr;
    kernels_.interest_pooling(model_.long_pooling(), x, c_.dim, times, times ? times[seq_len_ - 1] : kUnknownTime,
                              seq_len_, pooled, scratch);
    kernels_.linear(model_.long_value(), pooled, c_.dim, nullptr, 0, long_interests, c_.dim, c_.num_long);
  }

  // The times at which the newest events are queried.
  const int64_t* query_times(const int64_t* times, int64_t num_rows) {
    if (!c_.request_time) return times;
    int64_t* query = scratch_.ints(num_rows);
    std::copy(times + 1, times + num_rows, query);
    query[num_rows - 1] = history_.now != kUnknownTime ? history_.now : times[num_rows - 1];
    return query;
  }

  const Model& model_;
  const ModelConfig& c_;
  const History history_;
  const cpu::KernelTable& kernels_;
  const int64_t seq_len_;
  int64_t num_states_ = 0;
  Scratch scratch_;
};

}  // namespace

void check_events(const ModelConfig& config, const EventBatch& events) {
  check_offsets("offsets", events.offsets, events.batch, events.total);
  check_rows("items", events.items, events.total, config.num_items);
  if (events.actions != nullptr && config.num_actions > 0) {
    check_rows("actions", events.actions, events.total, config.num_actions + 1);
  }
}

void encode(const Model& model, const EventBatch& events, int threads, const Encoded& out) {
  const ModelConfig& c = model.config();
  Scratch scratch;
  int64_t* order = scratch.ints(events.batch);
  std::iota(order, order + events.batch, 0);
  if (threads > 1) {  // the longest first, so that no thread ends up alone with a long one
    const auto length = [&](int64_t b) { return events.offsets[b + 1] - events.offsets[b]; };
    std::sort(order, order + events.batch, [&](int64_t a, int64_t b) { return length(a) > length(b); });
  }
  parallel_for(events.batch, threads, [&](int64_t task) {
    const int64_t b = order[task];
    const int64_t begin = events.offsets[b];
    const int64_t seq_len = events.offsets[b + 1] - begin;
    const Encoded user = out.of(c, b);
    if (seq_len == 0) {
      clear(c, user);
      return;
    }
    const History history = {events.items + begin, events.times ? events.times + begin : nullptr,
                             events.actions ? events.actions + begin : nullptr, seq_len,
                             events.now ? events.now[b] : kUnknownTime};
    UserEncoder(model, history).run(user);
  });
}

}  // namespace lsif::engine
