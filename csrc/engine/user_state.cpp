#include "engine/user_state.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>

#include "engine/refuse.h"

namespace lsif::engine {
namespace {

constexpr char kFormat[8] = {'l', 's', 'i', 'f', 'u', 's', 'r', '1'};

[[noreturn]] void refuse(const std::string& expected, const std::string& got) {
  engine::refuse("state", expected, got);
}

// Bytes of each part of a state, in order.
std::array<int64_t, 9> part_sizes(const ModelConfig& c, int64_t remember) {
  constexpr int64_t kInt = sizeof(int64_t);
  constexpr int64_t kDouble = sizeof(double);
  constexpr int64_t kFloat = sizeof(float);
  std::array<int64_t, 9> sizes = {sizeof(StateHeader),
                                  kInt * remember,
                                  kInt * (c.repeats && c.use_times ? remember : 0),
                                  kInt * c.window,
                                  kDouble * c.num_long,
                                  kDouble * c.num_long,
                                  kDouble * c.num_long * c.dim,
                                  kFloat * c.num_layers * c.window * 2 * c.dim,
                                  kFloat * most_states(c) * c.dim};
  for (int64_t& size : sizes) size = (size + 7) / 8 * 8;
  return sizes;
}

void check_count(const char* what, int64_t value, int64_t most) {
  if (value < 0 || value > most) {
    refuse(std::string(what) + " in [0, " + std::to_string(most) + "]", std::to_string(value));
  }
}

}  // namespace

void check_remember(int64_t remember) {
  if (remember >= 1 && remember <= kMaxRemembered) return;
  refuse("remember", "1 to " + std::to_string(kMaxRemembered), std::to_string(remember));
}

int64_t user_state_size(const ModelConfig& config, int64_t remember) {
  const auto sizes = part_sizes(config, remember);
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
}

template <typename Byte>
UserStateView<Byte>::UserStateView(const ModelConfig& config, int64_t remember, Byte* data) {
  const auto sizes = part_sizes(config, remember);
  size_t next = 0;
  const auto take = [&](auto& part) {
    part = reinterpret_cast<std::decay_t<decltype(part)>>(data);
    data += sizes[next++];
  };
  take(header);
  take(seen_items);
  take(seen_times);
  take(key_times);
  take(maximum);
  take(denominator);
  take(numerator);
  take(keys_values);
  take(states);
}

template class UserStateView<std::byte>;
template class UserStateView<const std::byte>;

void start_state(const ModelConfig& config, const Fingerprint& model, int64_t remember, std::byte* data) {
  const int64_t size = user_state_size(config, remember);
  std::memset(data, 0, static_cast<size_t>(size));
  const UserState state(config, remember, data);
  std::copy(std::begin(kFormat), std::end(kFormat), state.header->format);
  state.header->model = model;
  state.header->size = size;
  state.header->remember = remember;
  state.header->oldest_time = state.header->newest.time = kUnknownTime;
  std::fill_n(state.maximum, config.num_long, -std::numeric_limits<double>::infinity());
}

ConstUserState check_state(const ModelConfig& config, const std::byte* data, int64_t size) {
  if (reinterpret_cast<uintptr_t>(data) % 8 != 0) refuse("memory aligned to 8 bytes", "memory that is not");
  StateHeader header;
  if (size < static_cast<int64_t>(sizeof header)) refuse("a user state", std::to_string(size) + " bytes");
  std::memcpy(&header, data, sizeof header);
  if (!std::equal(std::begin(kFormat), std::end(kFormat), header.format)) {
    refuse("a user state of this version", "other bytes");
  }
  if (header.remember < 1 || header.remember > kMaxRemembered) {
    refuse("remember in [1, " + std::to_string(kMaxRemembered) + "]", std::to_string(header.remember));
  }
  const int64_t expected = user_state_size(config, header.remember);
  if (header.size != expected || size != expected) {
    refuse(std::to_string(expected) + " bytes", std::to_string(size));
  }
  const ConstUserState state(config, header.remember, data);
  check_count("num_events", header.num_events, std::numeric_limits<int64_t>::max() / 2);
  check_count("num_unknown", header.num_unknown, std::numeric_limits<int64_t>::max() / 2);
  check_count("num_rows", header.num_rows, std::min(config.window - 1, std::max<int64_t>(header.num_events - 1, 0)));
  check_count("num_states", header.num_states, most_states(config));
  if (header.num_events == 0) return state;
  check_count("an item", header.newest.item, config.num_items - 1);
  check_count("an action", header.newest.action, config.num_actions);
  return state;
}

EventBatch seen_events(const ModelConfig& config, std::span<const ConstUserState> states, const int64_t* now,
                       Scratch& scratch) {
  const auto batch = static_cast<int64_t>(states.size());
  int64_t* offsets = scratch.ints(batch + 1);
  offsets[0] = 0;
  for (int64_t b = 0; b < batch; ++b) offsets[b + 1] = offsets[b] + states[b].num_seen();
  const int64_t total = offsets[batch];
  int64_t* items = scratch.ints(total);
  int64_t* times = config.repeats && config.use_times ? scratch.ints(total) : nullptr;
  for (int64_t b = 0; b < batch; ++b) {
    std::copy_n(states[b].seen_items, states[b].num_seen(), items + offsets[b]);
    if (times != nullptr) std::copy_n(states[b].seen_times, states[b].num_seen(), times + offsets[b]);
  }
  // As unsigned, a negative row exceeds every valid one; taking the maximum avoids a branch per item.
  uint64_t highest = 0;
  for (int64_t i = 0; i < total; ++i) highest = std::max(highest, static_cast<uint64_t>(items[i]));
  check_count("an item", static_cast<int64_t>(highest), config.num_items - 1);
  return {items, times, nullptr, offsets, now, total, batch};
}

}  // namespace lsif::engine
