#include <algorithm>

#include "kernels/cuda/newest_rows.cuh"
#include "kernels/cuda/user_states.h"

namespace lsif::cuda {
namespace {

// The most users per block: their rows share the loads of weights.
constexpr int kMostUsers = 16;
constexpr int64_t kBlocksWanted = 128;  // about the number of multiprocessors

// Floats append's long-term interests need per user, reusing the memory of the blocks: see add_to_long_interests.
constexpr int64_t long_size(const EncoderShape& s) {
  return padded_stride(s.dim) + padded_stride(s.pooling_dim) + padded_stride(s.num_long) + 4 * s.num_long;
}

struct NewEvents {
  const int64_t* items;
  const int64_t* times;    // or null
  const int64_t* actions;  // or null

  __device__ int64_t time(const EncoderParams& params, int64_t user) const {
    return params.use_times && times != nullptr ? times[user] : kUnknownTime;
  }
  __device__ int64_t action(int64_t user) const { return actions == nullptr ? 0 : actions[user]; }
};

// Stores the states and times of events that are no longer the newest.
__device__ void keep_states(const NewestRows& rows) {
  const EncoderShape& shape = rows.params.shape;
  const int dim = static_cast<int>(shape.dim);
  const int64_t most = kept_states(shape) - 1;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < rows.count * dim; i += kEncoderThreads) {
    const int u = i / dim;
    const NewestRow& row = rows.rows[u];
    if (row.num_events == 0) continue;
    const State s = rows.state(u);
    if (i % dim == 0) s.key_times[row.place] = s.newest->time;
    if (most > 0) s.states[(row.num_events - 1) % most * dim + i % dim] = rows.x.row(u)[i % dim];
  }
}

// One thread per user and interest: adds a logit to the running softmax, like `add` in engine/append.cpp. Writes to
// `factors` what the numerator and the event's vector are to be multiplied by.
__device__ void weigh_event(const State& s, int64_t a, float logit, const float* decay, int64_t time,
                            double (&factors)[2]) {
  double before = s.maximum[a];
  if (decay != nullptr && time != kUnknownTime && s.newest->num_events > 0 && s.newest->time != kUnknownTime) {
    const double days = static_cast<double>(elapsed(s.newest->time, time)) / kSecondsPerDay;
    before -= static_cast<double>(decay[a]) * days;
  }
  const double highest = before > static_cast<double>(logit) ? before : static_cast<double>(logit);
  const double reference = highest == -__builtin_inf() ? 0.0 : highest;  // if infinite, both factors are 0
  factors[0] = exp(before - reference);
  factors[1] = exp(static_cast<double>(logit) - reference);
  s.maximum[a] = highest;
  s.denominator[a] = s.denominator[a] * factors[0] + factors[1];
}

__device__ void add_to_long_interests(const EncoderParams& params, const States& states, const NewEvents& events,
                                      int64_t first_user, int count, BlockArena arena) {
  const EncoderShape& shape = params.shape;
  const int dim = static_cast<int>(shape.dim);
  const int num_long = static_cast<int>(shape.num_long);
  const int thread = static_cast<int>(threadIdx.x);
  const RowsView x = arena.rows(count, static_cast<int>(padded_stride(dim)));
  const RowsView hidden = arena.rows(count, static_cast<int>(padded_stride(shape.pooling_dim)));
  const RowsView logits = arena.rows(count, static_cast<int>(padded_stride(num_long)));
  auto* factors = reinterpret_cast<double (*)[2]>(arena.take(count * 4 * num_long));
  const int64_t* actions = events.actions == nullptr ? nullptr : events.actions + first_user;
  embed(params.embedding, EventIds{events.items + first_user, actions}, count, x);
  block_linear(params.long_pooling.hidden, x, count, {nullptr, 0, hidden.data, hidden.stride});
  block_linear(params.long_pooling.logits, hidden, count, {nullptr, 0, logits.data, logits.stride});
#pragma unroll 1
  for (int i = thread; i < count * num_long; i += kEncoderThreads) {
    const int64_t user = first_user + i / num_long;
    weigh_event(states.of(user), i % num_long, logits.row(i / num_long)[i % num_long], params.long_pooling.decay,
                events.time(params, user), factors[i]);
  }
  __syncthreads();
#pragma unroll 1
  for (int i = thread; i < count * num_long * dim; i += kEncoderThreads) {
    const int u = i / dim / num_long;
    double& numerator = states.of(first_user + u).numerator[i % (num_long * dim)];
    numerator = numerator * factors[i / dim][0] + factors[i / dim][1] * static_cast<double>(x.row(u)[i % dim]);
  }
}

__global__ void __launch_bounds__(kEncoderThreads)
    append_kernel(const __grid_constant__ EncoderParams params, const __grid_constant__ States states, NewEvents events,
                  int users, int64_t shared) {
  const int64_t first_user = static_cast<int64_t>(blockIdx.x) * users;
  const int64_t left = states.slots.batch - first_user;
  const int count = static_cast<int>(left < users ? left : users);
  const BlockArena arena = {linear_scratch() + fixed_size(params.shape), shared, nullptr};
  BlockArena free = arena;
  NewestRows rows(params, states, first_user, count, free);
  rows.run<true>(
      [&](int u) { return params.request_time ? events.time(params, first_user + u) : rows.state(u).newest->time; });
  keep_states(rows);
  __syncthreads();
  if (params.shape.num_long > 0) add_to_long_interests(params, states, events, first_user, count, arena);
  __syncthreads();
#pragma unroll 1
  for (int u = static_cast<int>(threadIdx.x); u < count; u += kEncoderThreads) {
    const int64_t user = first_user + u;
    NewestEvent& newest = *states.of(user).newest;
    newest = {newest.num_events + 1, events.items[user], events.time(params, user), events.action(user)};
  }
}

__global__ void __launch_bounds__(kEncoderThreads)
    encode_states_kernel(const __grid_constant__ EncoderParams params, const __grid_constant__ States states,
                         const int64_t* now, EncoderOutputs out, int64_t shared) {
  const EncoderShape& shape = params.shape;
  const int64_t user = blockIdx.x;
  const State s = states.of(user);
  const int64_t num_events = s.newest->num_events;
  if (num_events == 0) return clear_outputs(shape, outputs_of(shape, out, user));
  const int64_t asked = now == nullptr || !params.request_time ? kUnknownTime : now[user];
  const int dim = static_cast<int>(shape.dim);
  const int stride = static_cast<int>(padded_stride(dim));
  BlockArena arena = {linear_scratch() + fixed_size(shape), shared, nullptr};
  NewestRows rows(params, states, user, 1, arena);
  const UserInterests interests(params, arena);
  interests.add_context(num_events, s.newest->time, asked);
  rows.run<false>([&](int) { return asked == kUnknownTime ? s.newest->time : asked; });
  if (shape.num_long > 0) {
    BlockArena free = arena;
    const RowsView pooled = free.rows(shape.num_long, stride);
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(shape.num_long) * dim; i += kEncoderThreads) {
      pooled.row(i / dim)[i % dim] = static_cast<float>(weighted_mean(s.numerator[i], s.denominator[i / dim]));
    }
    interests.add_long(pooled);
  }
  if (shape.num_short > 0) {
    const int64_t most = shape.short_window - 1;
    const int num_states = static_cast<int>(num_events - 1 < most ? num_events - 1 : most) + 1;
    const RowsView chunk = arena.rows(kPoolingRows, stride);
    const auto rows_of = [&](int64_t from, int n) {
#pragma unroll 1
      for (int i = static_cast<int>(threadIdx.x); i < n * dim; i += kEncoderThreads) {
        const int64_t before = num_states - 1 - (from + i / dim);  // the newest state
        const float* state = before == 0 ? rows.x.data : s.states + (num_events - 1 - before) % most * dim;
        chunk.row(i / dim)[i % dim] = state[i % dim];
      }
      return chunk;
    };
    interests.add_short(num_states, rows_of, arena);
  }
  interests.fuse(rows.x.data, outputs_of(shape, out, user));
}

__global__ void start_states_kernel(EncoderShape shape, States states) {
  const State s = states.of(blockIdx.x);
  if (threadIdx.x == 0) *s.newest = {0, 0, kUnknownTime, 0};
  for (int64_t i = threadIdx.x; i < shape.num_long * shape.dim; i += kThreads) s.numerator[i] = 0.0;
  for (int64_t a = threadIdx.x; a < shape.num_long; a += kThreads) {
    s.maximum[a] = -__builtin_inf();
    s.denominator[a] = 0.0;
  }
}

constexpr int64_t kFloat = sizeof(float);

constexpr int64_t append_shared(const EncoderShape& s, int64_t users) {
  return users * std::max(state_sizes(s).user, s.num_long > 0 ? long_size(s) : 0);
}

constexpr int64_t encode_states_shared(const EncoderShape& s) { return state_sizes(s).user + interests_size(s); }

}  // namespace

bool user_states_fit(const EncoderShape& s) {
  if (!encode_users_fits(s)) return false;
  const int64_t most = std::max(append_shared(s, kMostUsers), encode_states_shared(s));
  return (fixed_size(s) + most) * kFloat <= shared_memory_limit();
}

cudaError_t start_states(const EncoderShape& shape, const StateSlots& states, cudaStream_t stream) {
  return launch(start_states_kernel, states.batch, kThreads, stream, shape, States{states, state_layout(shape)});
}

cudaError_t append(const EncoderParams& params, const StateSlots& states, const int64_t* items, const int64_t* times,
                   const int64_t* actions, cudaStream_t stream) {
  if (!user_states_fit(params.shape)) return cudaErrorInvalidValue;
  const auto users = static_cast<int>(std::min<int64_t>(divide_up(states.batch, kBlocksWanted), kMostUsers));
  const int64_t shared = append_shared(params.shape, users);
  if (states.batch == 0) return cudaSuccess;
  return launch_shared(append_kernel, divide_up(states.batch, users), kEncoderThreads,
                       (fixed_size(params.shape) + shared) * kFloat, stream, params,
                       States{states, state_layout(params.shape)}, NewEvents{items, times, actions}, users, shared);
}

cudaError_t encode_states(const EncoderParams& params, const StateSlots& states, const int64_t* now, float* fused,
                          float* interests, float* weights, cudaStream_t stream) {
  if (!user_states_fit(params.shape)) return cudaErrorInvalidValue;
  const int64_t shared = encode_states_shared(params.shape);
  return launch_shared(
      encode_states_kernel, states.batch, kEncoderThreads, (fixed_size(params.shape) + shared) * kFloat, stream, params,
      States{states, state_layout(params.shape)}, now, EncoderOutputs{fused, interests, weights}, shared);
}

}  // namespace lsif::cuda
