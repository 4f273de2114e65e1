// User states on the device: appending one event for each of many users, and encoding the states         (docs/cuda.md)
//
// Does what engine/append.h does, for those models supported by encode_users.h whose rows and poolings fit in shared
// memory. A state is a slot of device_state_size() bytes, divided into parts (StateLayout). Of all events except the
// newest it keeps the keys and values of the last window - 1 rows, per layer, and the last short_window - 1 states,
// each in a ring buffer: row r of the history is at place r modulo the ring's size, so an append moves nothing. Of all
// events it keeps a running softmax per long-term interest, in float64. The newest event is kept as it is, because its
// encoding may depend on the time of the next. Unlike the CPU's states, these have keys and values of all layers, also
// of a transformer's last layer, and remember no items: the caller keeps what a user has seen.
//
// The caller must ensure: slots, items and actions in range, no slot twice in one call, no time before the newest
// event's, all times of a history known or all unknown.
#pragma once

#include "kernels/cuda/encode_users.h"

namespace lsif::cuda {

// The offsets of the parts of a state, in bytes, multiples of 16.
struct StateLayout {
  int64_t newest;       // int64 [4]: number of events in the history; item, time and action of the newest
  int64_t key_times;    // int64 [window]
  int64_t maximum;      // float64 [num_long], of the logits, aged to the newest event
  int64_t denominator;  // float64 [num_long]
  int64_t numerator;    // float64 [num_long, dim]
  int64_t keys_values;  // float32 [num_layers, window, 2 dim], each row a key followed by a value
  int64_t states;       // float32 [short_window - 1, dim], if num_short > 0
  int64_t size;
};

constexpr StateLayout state_layout(const EncoderShape& s) {
  StateLayout layout = {};
  int64_t end = 0;
  const auto take = [&](int64_t count, int64_t bytes) {
    const int64_t begin = end;
    end += (count * bytes + 15) / 16 * 16;
    return begin;
  };
  layout.newest = take(4, 8);
  layout.key_times = take(s.window, 8);
  layout.maximum = take(s.num_long, 8);
  layout.denominator = take(s.num_long, 8);
  layout.numerator = take(s.num_long * s.dim, 8);
  layout.keys_values = take(s.num_layers * s.window * 2 * s.dim, 4);
  layout.states = take(s.num_short > 0 ? (s.short_window - 1) * s.dim : 0, 4);
  layout.size = end;
  return layout;
}

constexpr int64_t device_state_size(const EncoderShape& shape) { return state_layout(shape).size; }

// Whether the launchers below support models of this shape on the current device.
bool user_states_fit(const EncoderShape& shape);

// The states kept on the device, and the slots a call refers to.
struct StateSlots {
  unsigned char* states;  // [slots, device_state_size()], 16-byte aligned
  const int64_t* slots;   // [batch]
  int64_t batch;
};

// Turns these slots into states without events.
cudaError_t start_states(const EncoderShape& shape, const StateSlots& states, cudaStream_t stream);

// Appends one event to each of them. times, actions: [batch], or null: unknown.
cudaError_t append(const EncoderParams& params, const StateSlots& states, const int64_t* items, const int64_t* times,
                   const int64_t* actions, cudaStream_t stream);

// What encode_users gives for the whole histories at request times now ([batch], or null: unknown). The newest state
// and the short-term interests are bit-equal to it. Long-term interests are summed in float64 here, so they, the
// weights and the fused vectors may differ within the kernels' error bounds. The states are not changed.
cudaError_t encode_states(const EncoderParams& params, const StateSlots& states, const int64_t* now, float* fused,
                          float* interests, float* weights, cudaStream_t stream);

}  // namespace lsif::cuda
