// What is kept of a user between requests: one block of bytes whose size does not depend on the history
//                                                                                              (docs/user_state.md)
// The newest event is kept as it is, because with `request_time` its encoding depends on the time of the next event
// (docs/model.md, 2). Of the events before it the state keeps, for each layer, the keys and values still in its window,
// and the newest states. For each long-term interest it keeps the running (maximum, denominator, numerator) of its
// softmax over all events, including the newest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "engine/encode.h"
#include "engine/model.h"
#include "engine/scratch.h"

namespace lsif::engine {

struct Event {
  int64_t item;
  int64_t time;  // kUnknownTime if the model does not use times
  int64_t action;
};

using Fingerprint = std::array<unsigned char, 32>;  // identifies the model a state belongs to, for the caller to check

struct StateHeader {
  char format[8];
  Fingerprint model;
  int64_t size;         // of the state, in bytes
  int64_t remember;     // how many of the newest events are remembered, for exclusion and repeats
  int64_t num_events;   // of the whole history
  int64_t num_unknown;  // events left out because the catalogue does not know their items
  int64_t num_rows;     // rows of keys and values kept
  int64_t num_states;   // states kept
  int64_t oldest_time;
  Event newest;
};

inline constexpr int64_t kMaxRemembered = 1 << 20;

// Throws unless remember is in 1 .. kMaxRemembered.
void check_remember(int64_t remember);
int64_t user_state_size(const ModelConfig& config, int64_t remember);

// The most states kept besides that of the newest event.
inline int64_t most_states(const ModelConfig& config) { return config.num_short > 0 ? config.short_window - 1 : 0; }

// The parts of a state, as pointers into its bytes. Byte is std::byte, or const std::byte for read-only access.
template <typename Byte>
class UserStateView {
  template <typename T>
  using Part = std::conditional_t<std::is_const_v<Byte>, const T*, T*>;

 public:
  // data: user_state_size() bytes, 8-byte aligned, laid out by start_state for this config and remember.
  UserStateView(const ModelConfig& config, int64_t remember, Byte* data);

  int64_t num_seen() const { return header->num_events < header->remember ? header->num_events : header->remember; }

  Part<StateHeader> header;
  Part<int64_t> seen_items;  // [remember], the newest num_seen() events, oldest first
  Part<int64_t> seen_times;  // the times of these events; only for a model with repeats and times
  Part<int64_t> key_times;   // [window], times of the rows of keys and values
  Part<double> maximum;      // [num_long], of the logits, aged to the newest event
  Part<double> denominator;  // [num_long]
  Part<double> numerator;    // [num_long, dim]
  Part<float> keys_values;   // [num_layers, window, 2 dim]: num_rows rows, each a key followed by a value
  Part<float> states;        // [most_states(), dim]: num_states rows
};

using UserState = UserStateView<std::byte>;
using ConstUserState = UserStateView<const std::byte>;

// Writes a state without events to `data`, user_state_size() bytes.
void start_state(const ModelConfig& config, const Fingerprint& model, int64_t remember, std::byte* data);

// Throws std::invalid_argument ("state: expected ..., got ...") unless the `size` bytes at `data` are a state for
// models of this shape that can be used without accessing memory outside it. Not checked: the model it belongs to
// (compare the header), its numbers (use a checksum), and the remembered items, which are checked where they are read:
// there may be a million.
ConstUserState check_state(const ModelConfig& config, const std::byte* data, int64_t size);

// The remembered events of the states as a batch of histories, in memory of `scratch`. Throws std::invalid_argument if
// the model does not have one of the items.
EventBatch seen_events(const ModelConfig& config, std::span<const ConstUserState> states, const int64_t* now,
                       Scratch& scratch);

}  // namespace lsif::engine
