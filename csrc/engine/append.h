// User states: appending events at constant cost, and encoding a state                      (docs/user_state.md)
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/user_state.h"

namespace lsif::engine {

// Appends each user's events, oldest first, in place to the state with the same index. The cost of an event does not
// depend on the length of the history. The events must have passed check_events.
//
// Throws std::invalid_argument, and leaves the states unchanged, if an event is earlier than the one before it, or if
// some times of a history are known and others are not. Such a history must be sorted and made into a new state.
void append(const Model& model, std::span<const UserState> states, const EventBatch& events, int threads);

// The interests, weights and fused vector of each state at request time now[b] (null: unknown), as `encode` gives for
// the whole history. The newest state and the short-term interests are bit-equal to encode's. Long-term interests are
// summed in double here, so they, the weights and the fused vector may differ within the error bound of the kernels.
void encode_states(const Model& model, std::span<const ConstUserState> states, const int64_t* now, int threads,
                   const Encoded& out);

// Number of events after which a state depends on nothing before them: num_layers (window - 1) + short_window.
int64_t independent_events(const ModelConfig& config);

// Turns `newer` into the state of the history of `older` followed by its own; both of one model, with equal `remember`.
// Exact, because the running sums of a softmax can be added; so parts of a long history can be processed in parallel.
// Throws std::invalid_argument if `newer` has fewer than independent_events() events or begins before `older` ends.
void prepend(const Model& model, const ConstUserState& older, const UserState& newer);

}  // namespace lsif::engine
