// User states: one more event at constant cost, and what the model makes of a state           (docs/user_state.md)
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/user_state.h"

namespace lsif::engine {

// Appends each user's events to the state of the same number, in place, oldest first. An event costs the same after ten
// and after a million. The events must have passed check_events.
//
// Throws std::invalid_argument, and leaves the states as they were, if a time is before the one of the event it follows
// or if some times of a history are known and others are not: such a history has to be sorted and made into a new
// state.
void append(const Model& model, std::span<const UserState> states, const EventBatch& events, int threads);

// The interests, weights and fused vector of each state at request time now[b] (null: unknown): what `encode` gives for
// the whole history. The newest state and the short-term interests are the same bit for bit; long-term interests are
// summed in double here, so they, the weights and the fused vector may differ within the error bound of the kernels.
void encode_states(const Model& model, std::span<const ConstUserState> states, const int64_t* now, int threads,
                   const Encoded& out);

// Events a state needs for what precedes it to be out of every window: num_layers (window - 1) + short_window.
int64_t independent_events(const ModelConfig& config);

// Makes `newer` the state of the history of `older` followed by its own; both of one model and equal `remember`. Exact,
// for the running sums of a softmax can be added; so a long history can be read in parts, side by side. Throws
// std::invalid_argument if `newer` has fewer than independent_events(), or begins before `older` ends.
void prepend(const Model& model, const ConstUserState& older, const UserState& newer);

}  // namespace lsif::engine
