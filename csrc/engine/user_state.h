// What is kept of a user between requests: one block of bytes whose size does not depend on the history
//                                                                                              (docs/user_state.md)
// The newest event is kept as it is, for with `request_time` what the model makes of it depends on the time of the next
// one (docs/model.md, 2). Of the events before it there are, for each layer, the keys and values its window still
// reaches, the newest states, and for each long-term interest the running (maximum, denominator, numerator) of its
// softmax over all events, the newest included.
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

using Fingerprint = std::array<unsigned char, 32>;  // of a model: what its states belong to, for the caller to check

struct StateHeader {
  char format[8];
  Fingerprint model;
  int64_t size;         // of the state, in bytes
  int64_t remember;     // how many of the newest events are kept as such, for exclusion and repeats
  int64_t num_events;   // of the whole history
  int64_t num_unknown;  // events left out because the catalogue does not know their items
  int64_t num_rows;     // of keys and values kept
  int64_t num_states;   // kept
  int64_t oldest_time;
  Event newest;
};

inline constexpr int64_t kMaxRemembered = 1 << 20;

// Refuses what is not in 1 .. kMaxRemembered.
void check_remember(int64_t remember);
int64_t user_state_size(const ModelConfig& config, int64_t remember);

// States kept beside the newest event's.
inline int64_t most_states(const ModelConfig& config) { return config.num_short > 0 ? config.short_window - 1 : 0; }

// The parts of a state, as pointers into its bytes. Byte is std::byte, or const std::byte for a state that is only
// read.
template <typename Byte>
class UserStateView {
  template <typename T>
  using Part = std::conditional_t<std::is_const_v<Byte>, const T*, T*>;

 public:
  // data: user_state_size() bytes, 8-byte aligned, that start_state laid out for this config and remember.
  UserStateView(const ModelConfig& config, int64_t remember, Byte* data);

  int64_t num_seen() const { return header->num_events < header->remember ? header->num_events : header->remember; }

  Part<StateHeader> header;
  Part<int64_t> seen_items;  // [remember], the newest num_seen() events, oldest first
  Part<int64_t> seen_times;  // likewise; only for a model with repeats and times
  Part<int64_t> key_times;   // [window], of the rows of keys and values
  Part<double> maximum;      // [num_long], of logits as they are at the newest event
  Part<double> denominator;  // [num_long]
  Part<double> numerator;    // [num_long, dim]
  Part<float> keys_values;   // [num_layers, window, 2 dim]: num_rows rows of keys and values side by side
  Part<float> states;        // [most_states(), dim]: num_states rows
};

using UserState = UserStateView<std::byte>;
using ConstUserState = UserStateView<const std::byte>;

// A state without events in `data`, user_state_size() bytes.
void start_state(const ModelConfig& config, const Fingerprint& model, int64_t remember, std::byte* data);

// Throws std::invalid_argument ("state: expected ..., got ...") unless `size` bytes at `data` are a state for models of
// this shape that can be used without leaving its memory. Whose it is the header says; what its numbers are worth is
// for a checksum to say, and whether the model has the items it remembers is checked where they are read: there are up
// to a million.
ConstUserState check_state(const ModelConfig& config, const std::byte* data, int64_t size);

// The events the states still know, as a batch of histories in memory of `scratch`. Throws std::invalid_argument if the
// model does not have an item among them.
EventBatch seen_events(const ModelConfig& config, std::span<const ConstUserState> states, const int64_t* now,
                       Scratch& scratch);

}  // namespace lsif::engine
