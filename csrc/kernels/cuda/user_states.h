// User states on the device: one more event for each of many users, and what the model makes of them    (docs/cuda.md)
//
// What engine/append.h does, for those of the models encode_users.h takes whose rows and poolings fit shared memory. A
// state is a slot of device_state_size() bytes, in parts (StateLayout). Of every event but the newest it keeps, per
// layer, keys and values of the last window - 1 rows, and the last short_window - 1 states, each in a ring: row r of
// the history lies at place r modulo the ring's size, and no append moves what is there. Of all events it keeps a
// running softmax per long-term interest, in float64. The newest event is kept as it is, for what the model makes of it
// may depend on when the next one comes. Unlike the CPU's states it has keys and values of all layers, also of a
// transformer's last; and it remembers no items: what a user has seen stays where requests are made.
//
// All of it is checked by the caller: slots, items and actions in range, no slot twice in one call, no time before the
// newest event's, all times of a history known or all unknown.
#pragma once

#include "kernels/cuda/encode_users.h"

namespace lsif::cuda {

// Where the parts of a state begin, in bytes, multiples of 16.
struct StateLayout {
  int64_t newest;       // int64 [4]: events of the history, then item, time and action of the newest
  int64_t key_times;    // int64 [window]
  int64_t maximum;      // float64 [num_long], of logits as they are at the newest event
  int64_t denominator;  // float64 [num_long]
  int64_t numerator;    // float64 [num_long, dim]
  int64_t keys_values;  // float32 [num_layers, window, 2 dim], keys and values side by side
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

// Whether the launchers below take models of this shape on the current device.
bool user_states_fit(const EncoderShape& shape);

// States that are kept on the device, and those a call is about.
struct StateSlots {
  unsigned char* states;  // [slots, device_state_size()], 16-byte aligned
  const int64_t* slots;   // [batch]
  int64_t batch;
};

// Makes them states without events.
cudaError_t start_states(const EncoderShape& shape, const StateSlots& states, cudaStream_t stream);

// One event for each of them. times, actions: [batch], or null: unknown.
cudaError_t append(const EncoderParams& params, const StateSlots& states, const int64_t* items, const int64_t* times,
                   const int64_t* actions, cudaStream_t stream);

// What encode_users gives for the whole histories at request times now ([batch], or null: unknown): the newest state
// and the short-term interests bit for bit; long-term interests, which are summed in float64 here, within the kernels'
// error bounds, and so weights and fused vectors. The states are not changed.
cudaError_t encode_states(const EncoderParams& params, const StateSlots& states, const int64_t* now, float* fused,
                          float* interests, float* weights, cudaStream_t stream);

}  // namespace lsif::cuda
