#include "engine/append.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "engine/blocks.h"
#include "engine/float_rows.h"
#include "engine/refuse.h"
#include "engine/scratch.h"
#include "engine/thread_pool.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/elapsed.h"

namespace lsif::engine {
namespace {

// The newest rows that the attention of each layer reads, with room for one more.
struct CachedRows {
  float* keys_values;  // [num_layers, capacity, 2 dim]
  int64_t* times;      // [capacity]
  int64_t capacity;
  int64_t num_rows;  // < capacity
};

// Runs the blocks over one event that follows the cached rows, appends its keys and values to theirs and writes its
// state to h. `asked` is q of docs/model.md, 2. Uses the same kernels as encode, so it gives the same bits.
void run_row(const Model& model, const Event& event, int64_t asked, const CachedRows& cache, float* h) {
  const ModelConfig& c = model.config();
  const cpu::KernelTable& kernels = cpu::kernels();
  const int64_t d = c.dim;
  const int64_t row = cache.num_rows;
  const int64_t in_width = model.layers()[0].input.out_dim;
  Scratch scratch;
  float* mixed = scratch.floats(d);
  float* projected = scratch.floats(in_width);
  int64_t* query_times = scratch.ints(row + 1);
  float* hidden = scratch.floats(c.block == Block::kTransformer ? c.ffn_dim : 0);
  float* attention = scratch.floats(attention_scratch_size(model.layers()[0].attention, row + 1));
  kernels.embedding(model.embedding(), &event.item, &event.action, 1, h, d);
  cache.times[row] = event.time;
  query_times[row] = asked;
  for (int64_t l = 0; l < c.num_layers; ++l) {
    const Layer& layer = model.layers()[l];
    float* keys = cache.keys_values + l * cache.capacity * 2 * d;
    float* own = keys + row * 2 * d;
    AttentionInput input = {projected,
                            keys,
                            keys + d,
                            in_width,
                            2 * d,
                            c.use_times ? cache.times : nullptr,
                            c.use_times ? query_times : nullptr,
                            row + 1};
    if (layer.is_absorbed()) {
      kernels.layer_norm(layer.norm, h, d, nullptr, 0, own, d, 1);
      std::copy_n(own, d, own + d);
      attend_absorbed(c, layer, own, input, 1, mixed, scratch);
    } else {
      if (l == 0 && model.has_input_table()) {
        kernels.embedding(model.input_table(), &event.item, nullptr, 1, projected, in_width);
      } else {
        kernels.layer_norm(layer.norm, h, d, nullptr, 0, mixed, d, 1);
        kernels.linear(layer.input, mixed, d, nullptr, 0, projected, in_width, 1);
      }
      std::copy_n(projected + d, 2 * d, own);
      kernels.attention(layer.attention, input, row, mixed, d, attention);
    }
    finish_layer(c, layer, mixed, projected + 3 * d, in_width, hidden, h, 1);
  }
  kernels.layer_norm(model.norm(), h, d, nullptr, 0, h, d, 1);
}

// Appends `row` to `rows` ([most, width], `count` in use); drops the oldest row if there is no room.
void push(float* rows, int64_t width, int64_t count, int64_t most, const float* row) {
  if (most == 0) return;
  if (count == most) std::memmove(rows, rows + width, static_cast<size_t>((most - 1) * width) * sizeof(float));
  std::copy_n(row, width, rows + std::min(count, most - 1) * width);
}

// Called when the newest event gets a successor: its keys, values and state are then final.
void settle_newest(const Model& model, const UserState& state, int64_t next_time) {
  const ModelConfig& c = model.config();
  StateHeader& header = *state.header;
  Scratch scratch;
  float* h = scratch.floats(c.dim);
  const int64_t asked = c.request_time ? next_time : header.newest.time;
  run_row(model, header.newest, asked, {state.keys_values, state.key_times, c.window, header.num_rows}, h);
  // Later events see window - 1 rows before them.
  if (++header.num_rows == c.window) {
    const auto dropped = static_cast<size_t>(--header.num_rows);
    std::memmove(state.key_times, state.key_times + 1, dropped * sizeof(int64_t));
    for (int64_t l = 0; l < c.num_layers; ++l) {
      float* rows = state.keys_values + l * c.window * 2 * c.dim;
      std::memmove(rows, rows + 2 * c.dim, dropped * static_cast<size_t>(2 * c.dim) * sizeof(float));
    }
  }
  const int64_t most = most_states(c);
  push(state.states, c.dim, header.num_states, most, h);
  header.num_states = std::min(header.num_states + 1, most);
}

// How much the logit of interest a decreases between two times.
double forgotten(const Model& model, int64_t a, int64_t from, int64_t to) {
  const float* decay = model.long_pooling().decay;
  if (decay == nullptr || !model.config().use_times || from == kUnknownTime || to == kUnknownTime) return 0;
  return static_cast<double>(decay[a]) * (static_cast<double>(elapsed(from, to)) / kSecondsPerDay);
}

// A running softmax-weighted sum: numerator / denominator, both scaled by exp(-maximum).
struct LongSum {
  double* maximum;
  double* denominator;
  double* numerator;  // [dim]
};

// Adds the running sum over other events.
template <typename T>
void add(const LongSum& sum, double maximum, double denominator, const T* numerator, int64_t dim) {
  const double highest = std::max(*sum.maximum, maximum);
  if (std::isinf(highest)) return;  // nothing on either side
  const double shrink = std::exp(*sum.maximum - highest);
  const double factor = std::exp(maximum - highest);
  *sum.maximum = highest;
  *sum.denominator = *sum.denominator * shrink + factor * denominator;
  for (int64_t i = 0; i < dim; ++i)
    sum.numerator[i] = sum.numerator[i] * shrink + factor * static_cast<double>(numerator[i]);
}

LongSum long_sum(const UserState& state, int64_t a, int64_t dim) {
  return {state.maximum + a, state.denominator + a, state.numerator + a * dim};
}

void add_to_long_interests(const Model& model, const UserState& state, const Event& event) {
  const ModelConfig& c = model.config();
  const cpu::KernelTable& kernels = cpu::kernels();
  const InterestPoolingParams& pooling = model.long_pooling();
  Scratch scratch;
  float* x = scratch.floats(c.dim);
  float* hidden = scratch.floats(c.pooling_dim);
  float* logits = scratch.floats(c.num_long);
  kernels.embedding(model.embedding(), &event.item, &event.action, 1, x, c.dim);
  kernels.linear(pooling.hidden, x, c.dim, nullptr, 0, hidden, c.pooling_dim, 1);
  kernels.linear(pooling.logits, hidden, c.pooling_dim, nullptr, 0, logits, c.num_long, 1);
  for (int64_t a = 0; a < c.num_long; ++a) {
    state.maximum[a] -= forgotten(model, a, state.header->newest.time, event.time);
    add(long_sum(state, a, c.dim), static_cast<double>(logits[a]), 1.0, x, c.dim);
  }
}

void append_one(const Model& model, const UserState& state, const Event& event) {
  const ModelConfig& c = model.config();
  StateHeader& header = *state.header;
  if (header.num_events > 0) {
    settle_newest(model, state, event.time);
  } else {
    header.oldest_time = event.time;
  }
  if (c.num_long > 0) add_to_long_interests(model, state, event);
  header.newest = event;
  ++header.num_events;
}

// Keeps the newest `most` of the `count` stored values followed by value(begin) .. value(end - 1). Moves values once
// per call, not per event.
template <typename Value>
void remember(int64_t* values, int64_t count, int64_t most, int64_t begin, int64_t end, const Value& value) {
  const int64_t added = std::min(end - begin, most);
  const int64_t kept = std::min(count, most - added);
  if (kept < count) std::memmove(values, values + count - kept, static_cast<size_t>(kept) * sizeof(int64_t));
  for (int64_t i = 0; i < added; ++i) values[kept + i] = value(end - added + i);
}

constexpr int64_t kOnlyUser = -1;  // this user needs no number in a message

void check_order(int64_t before, int64_t after, int64_t user) {
  const bool is_mixed = (before == kUnknownTime) != (after == kUnknownTime);
  if (!is_mixed && after >= before) return;
  const std::string argument = user == kOnlyUser ? "times" : "history[" + std::to_string(user) + "].times";
  const std::string again = ": make a new state of the ";
  if (is_mixed) refuse(argument, "all of a history known or all unknown", "some of each" + again + "history");
  refuse(argument, "none before the newest event's, " + std::to_string(before),
         std::to_string(after) + again + "sorted history");
}

// A state with a valid checksum may still have been written by a faulty program.
void check_encoded(const ModelConfig& c, int64_t batch, const Encoded& users) {
  const int64_t bad = std::max({check_finite(users.fused, batch, c.dim, 1),
                                check_finite(users.interests, batch, c.num_interests() * c.dim, 1),
                                check_finite(users.weights, batch, c.num_interests(), 1)});
  if (bad >= 0) refuse("state", "one of finite interests", "NaN or infinity for user " + std::to_string(bad));
}

class StateEncoder {
 public:
  StateEncoder(const Model& model, const ConstUserState& state, int64_t now)
      : model_(model), c_(model.config()), state_(state), now_(now), kernels_(cpu::kernels()) {}

  void run(const Encoded& user) {
    const StateHeader& header = *state_.header;
    pool_long(user.interests);
    const float* states = newest_states();
    fuse(model_, states, header.num_states + 1, {header.newest.time, now_, header.num_events}, user, scratch_);
  }

 private:
  void pool_long(float* interests) {
    if (c_.num_long == 0) return;
    float* pooled = scratch_.floats(c_.num_long * c_.dim);
    for (int64_t i = 0; i < c_.num_long * c_.dim; ++i) {
      pooled[i] = static_cast<float>(state_.numerator[i] / state_.denominator[i / c_.dim]);
    }
    kernels_.linear(model_.long_value(), pooled, c_.dim, nullptr, 0, interests, c_.dim, c_.num_long);
  }

  // The stored states, followed by that of the newest event, queried at now. The rows are copied, because others may be
  // reading the state.
  float* newest_states() {
    const StateHeader& header = *state_.header;
    const int64_t d = c_.dim;
    float* states = scratch_.floats((header.num_states + 1) * d);
    std::copy_n(state_.states, header.num_states * d, states);
    const int64_t capacity = header.num_rows + 1;
    CachedRows cache = {scratch_.floats(c_.num_layers * capacity * 2 * d), scratch_.ints(capacity), capacity,
                        header.num_rows};
    std::copy_n(state_.key_times, header.num_rows, cache.times);
    for (int64_t l = 0; l < c_.num_layers; ++l) {
      std::copy_n(state_.keys_values + l * c_.window * 2 * d, header.num_rows * 2 * d,
                  cache.keys_values + l * capacity * 2 * d);
    }
    const bool is_asked = c_.request_time && now_ != kUnknownTime;
    run_row(model_, header.newest, is_asked ? now_ : header.newest.time, cache, states + header.num_states * d);
    return states;
  }

  const Model& model_;
  const ModelConfig& c_;
  const ConstUserState& state_;
  const int64_t now_;
  const cpu::KernelTable& kernels_;
  Scratch scratch_;
};

}  // namespace

void append(const Model& model, std::span<const UserState> states, const EventBatch& events, int threads) {
  const ModelConfig& c = model.config();
  const auto event_at = [&](int64_t i) {
    return Event{events.items[i], c.use_times && events.times != nullptr ? events.times[i] : kUnknownTime,
                 c.num_actions > 0 && events.actions != nullptr ? events.actions[i] : 0};
  };
  for (int64_t b = 0; b < events.batch; ++b) {
    const StateHeader& header = *states[b].header;
    const int64_t user = events.batch > 1 ? b : kOnlyUser;
    int64_t before = header.newest.time;
    for (int64_t i = events.offsets[b]; i < events.offsets[b + 1]; ++i) {
      const int64_t time = event_at(i).time;
      if (header.num_events > 0 || i > events.offsets[b]) check_order(before, time, user);
      before = time;
    }
  }
  parallel_for(events.batch, threads, [&](int64_t b) {
    const UserState& state = states[b];
    const int64_t most = state.header->remember;
    const int64_t num_seen = state.num_seen();
    const int64_t begin = events.offsets[b];
    const int64_t end = events.offsets[b + 1];
    for (int64_t i = begin; i < end; ++i) append_one(model, state, event_at(i));
    remember(state.seen_items, num_seen, most, begin, end, [&](int64_t i) { return events.items[i]; });
    if (!c.repeats || !c.use_times) return;
    remember(state.seen_times, num_seen, most, begin, end, [&](int64_t i) { return event_at(i).time; });
  });
}

void encode_states(const Model& model, std::span<const ConstUserState> states, const int64_t* now, int threads,
                   const Encoded& out) {
  const ModelConfig& c = model.config();
  parallel_for(static_cast<int64_t>(states.size()), threads, [&](int64_t b) {
    const Encoded user = out.of(c, b);
    if (states[b].header->num_events == 0) {
      clear(c, user);
    } else {
      StateEncoder(model, states[b], now == nullptr ? kUnknownTime : now[b]).run(user);
    }
  });
  check_encoded(c, static_cast<int64_t>(states.size()), out);
}

int64_t independent_events(const ModelConfig& config) {
  return config.num_layers * (config.window - 1) + (config.num_short > 0 ? config.short_window : 1);
}

void prepend(const Model& model, const ConstUserState& older, const UserState& newer) {
  const ModelConfig& c = model.config();
  StateHeader& header = *newer.header;
  if (older.header->num_events == 0) {
    header.num_unknown += older.header->num_unknown;
    return;
  }
  if (header.num_events < independent_events(c)) {
    refuse("newer", "a state of at least " + std::to_string(independent_events(c)) + " events",
           std::to_string(header.num_events));
  }
  if (header.remember != older.header->remember) {
    refuse("newer", "remember as in older, " + std::to_string(older.header->remember), std::to_string(header.remember));
  }
  check_order(older.header->newest.time, header.oldest_time, kOnlyUser);
  for (int64_t a = 0; a < c.num_long; ++a) {
    const double maximum = older.maximum[a] - forgotten(model, a, older.header->newest.time, header.newest.time);
    add(long_sum(newer, a, c.dim), maximum, older.denominator[a], older.numerator + a * c.dim, c.dim);
  }
  const int64_t num_seen = newer.num_seen();
  const int64_t num_older = std::min(older.num_seen(), header.remember - num_seen);
  const auto put_before = [&](const int64_t* old_values, int64_t* values) {
    std::memmove(values + num_older, values, static_cast<size_t>(num_seen) * sizeof(int64_t));
    std::copy_n(old_values + older.num_seen() - num_older, num_older, values);
  };
  put_before(older.seen_items, newer.seen_items);
  if (c.repeats && c.use_times) put_before(older.seen_times, newer.seen_times);
  header.num_events += older.header->num_events;
  header.num_unknown += older.header->num_unknown;
  header.oldest_time = older.header->oldest_time;
}

}  // namespace lsif::engine
