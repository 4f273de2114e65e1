// Runs the newest events of user states through the blocks, by one block of threads                  (user_states.cu)
#pragma once

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/attention_bias.cuh"
#include "kernels/cuda/encoder_attention.cuh"
#include "kernels/cuda/encoder_user.cuh"
#include "kernels/cuda/user_states.h"

namespace lsif::cuda {

struct NewestEvent {
  int64_t num_events;  // in the history
  int64_t item;
  int64_t time;
  int64_t action;
};

struct State {
  NewestEvent* newest;
  int64_t* key_times;
  double* maximum;
  double* denominator;
  double* numerator;
  float* keys_values;
  float* states;
};

struct States {
  StateSlots slots;
  StateLayout layout;

  __device__ unsigned char* address(int64_t user) const { return slots.states + slots.slots[user] * layout.size; }
  __device__ State of(int64_t user) const { return at(address(user)); }
  __device__ State at(unsigned char* state) const {
    return {
        reinterpret_cast<NewestEvent*>(state + layout.newest), reinterpret_cast<int64_t*>(state + layout.key_times),
        reinterpret_cast<double*>(state + layout.maximum),     reinterpret_cast<double*>(state + layout.denominator),
        reinterpret_cast<double*>(state + layout.numerator),   reinterpret_cast<float*>(state + layout.keys_values),
        reinterpret_cast<float*>(state + layout.states)};
  }
};

// The position of a user's newest row, in shared memory.
struct NewestRow {
  unsigned char* state;
  int64_t num_events;
  int num_keys;     // keys it sees, itself included
  int first_place;  // of the first of these in the rings of keys and times
  int place;        // its own, which no other row has
  int unused;

  // The place of a key.
  __device__ int place_of(int key, int window) const {
    const int place_ = first_place + key;
    return place_ < window ? place_ : place_ - window;
  }
};

// Ids of the newest events.
struct NewestIds {
  const NewestRow* rows;
  int64_t newest;  // as in StateLayout

  __device__ const NewestEvent* event(int u) const {
    return reinterpret_cast<const NewestEvent*>(rows[u].state + newest);
  }
  __device__ int64_t item(int u) const { return event(u)->item; }
  __device__ int64_t action(int u) const { return event(u)->action; }
};

// Sizes in floats of shared memory, multiples of 4.
struct StateSizes {
  int64_t weights;  // of keys, per warp
  int64_t buckets;  // per user
  int64_t user;     // per user, in total
  int projected_stride;
};

constexpr StateSizes state_sizes(const EncoderShape& s) {
  StateSizes sizes = {};
  sizes.weights = round_up_to_4(s.window);
  sizes.buckets = round_up_to_4(static_cast<int64_t>(sizeof(Bucket)) * s.window / 4 + 1);
  sizes.projected_stride = static_cast<int>(padded_stride(s.projected_dim > s.ffn_dim ? s.projected_dim : s.ffn_dim));
  sizes.user = 2 * padded_stride(s.dim) + sizes.projected_stride + sizes.buckets +
               static_cast<int64_t>(sizeof(NewestRow) / sizeof(float));
  return sizes;
}

constexpr int64_t fixed_size(const EncoderShape& s) { return kLinearScratch + kEncoderWarps * state_sizes(s).weights; }

// One row per user, from the embedding of the newest event to its state, by all threads of a block.
struct NewestRows {
  const EncoderParams& params;
  const States& states;
  int64_t first_user;
  int count;  // users
  float* weights;
  RowsView x;
  RowsView normed;
  RowsView projected;
  Bucket* buckets;  // [count, window]
  int buckets_stride;
  NewestRow* rows;  // [count]

  __device__ NewestRows(const EncoderParams& p, const States& s, int64_t first, int num_users, BlockArena& arena)
      : params(p), states(s), first_user(first), count(num_users) {
    const StateSizes sizes = state_sizes(p.shape);
    const int stride = static_cast<int>(padded_stride(p.shape.dim));
    weights = linear_scratch() + kLinearScratch;
    x = arena.rows(count, stride);
    normed = arena.rows(count, stride);
    projected = arena.rows(count, sizes.projected_stride);
    buckets = reinterpret_cast<Bucket*>(arena.take(count * sizes.buckets));
    buckets_stride = static_cast<int>(sizes.buckets * 4 / static_cast<int64_t>(sizeof(Bucket)));
    rows = reinterpret_cast<NewestRow*>(arena.take(count * static_cast<int64_t>(sizeof(NewestRow) / sizeof(float))));
  }

  __device__ State state(int u) const { return states.at(rows[u].state); }
  __device__ int window() const { return static_cast<int>(params.shape.window); }
  __device__ int width() const { return 2 * static_cast<int>(params.shape.dim); }  // of keys and values

  // Results for users without events are not used.
  __device__ void find_rows() const {
#pragma unroll 1
    for (int u = static_cast<int>(threadIdx.x); u < count; u += kEncoderThreads) {
      unsigned char* address = states.address(first_user + u);
      const int64_t num_events = states.at(address).newest->num_events;
      const int64_t row = num_events > 0 ? num_events - 1 : 0;
      const int num_keys = static_cast<int>(row < window() ? row + 1 : window());
      const int place = static_cast<int>(row % window());
      const int first_place = place - (num_keys - 1);
      rows[u] = {address, num_events, num_keys, first_place < 0 ? first_place + window() : first_place, place, 0};
    }
    __syncthreads();
  }

  // By one warp. States are scattered in memory and slow to load.
  __device__ void prefetch_bytes(const unsigned char* from, int64_t size) const {
    constexpr int kLine = 128;
#pragma unroll 1
    for (int64_t byte = static_cast<int64_t>(threadIdx.x) % kWarp * kLine; byte < size; byte += kWarp * kLine) {
      prefetch(from + byte);
    }
  }

  __device__ void prefetch_states() const {
    const int parts = static_cast<int>(params.shape.num_layers) + 2;
    const StateLayout& layout = states.layout;
    const int64_t row_bytes = width() * static_cast<int64_t>(sizeof(float));
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x) / kWarp; i < count * parts; i += kEncoderWarps) {
      const NewestRow& row = rows[i / parts];
      const int part = i % parts;
      if (part == 0) {
        prefetch_bytes(row.state, layout.keys_values);
      } else if (part == 1) {
        prefetch_bytes(row.state + layout.states, layout.size - layout.states);
      } else {
        prefetch_bytes(row.state + layout.keys_values + (part - 2) * window() * row_bytes, row.num_keys * row_bytes);
      }
    }
  }

  // asked(u): the time user u's row is queried at. kKeep: keys, values and times are stored in the state.
  template <bool kKeep, typename Asked>
  __device__ void run(Asked asked) {
    find_rows();
    prefetch_states();
    embed(params.embedding, NewestIds{rows, states.layout.newest}, count, x);
    find_buckets(asked);
#pragma unroll 1
    for (int l = 0; l < static_cast<int>(params.shape.num_layers); ++l) {
      const BlockParams& block = params.blocks[l];
      __syncthreads();
      norm_rows(block.norm, x, 0, count, nullptr, 0, normed);
      block_linear(block.input, normed, count, {nullptr, 0, projected.data, projected.stride});
      attend(block.attention, l);
      if constexpr (kKeep) keep_keys(l);
      __syncthreads();
      finish_layer(params.shape, block, x, normed, projected, count);
    }
    norm_rows(params.norm, x, 0, count, nullptr, 0, x);
    __syncthreads();
  }

  // The bucket of each key of the window, by its distance; 0 is the row itself.
  template <typename Asked>
  __device__ void find_buckets(Asked asked) const {
    const bool is_timed = params.use_times && params.blocks[0].attention.time_bias != nullptr;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < count * window(); i += kEncoderThreads) {
      const int u = i / window();
      const int distance = i - u * window();
      const int key = rows[u].num_keys - 1 - distance;
      if (key < 0) continue;
      Bucket& bucket = buckets[u * buckets_stride + distance];
      bucket = 0;
      if (!is_timed) continue;
      const State s = state(u);
      const int64_t time = distance == 0 ? s.newest->time : s.key_times[rows[u].place_of(key, window())];
      bucket = static_cast<Bucket>(time_bucket(params.blocks[0].attention, asked(u), time));
    }
  }

  __device__ void attend(const AttentionParams& attention, int layer) const {
    const int num_heads = static_cast<int>(attention.num_heads);
    float* own = weights + static_cast<int>(threadIdx.x) / kWarp * state_sizes(params.shape).weights;
#pragma unroll 1
    for (int task = static_cast<int>(threadIdx.x) / kWarp; task < count * num_heads; task += kEncoderWarps) {
      const int u = task / num_heads;
      const int head = task % num_heads;
      const int dim = static_cast<int>(attention.head_dim);
      // row: queries, keys and values; ring: keys and values.
      const float* row = projected.row(u) + head * dim;
      const float* ring = state(u).keys_values + layer * window() * width() + head * dim;
      find_head_weights(attention, u, head, row, ring, own);
      __syncwarp();
      sum_head_values(attention, u, head, row, ring, own);
      __syncwarp();  // the next head overwrites the weights
    }
  }

  // By one warp. The same sums in the same order as find_weights.
  __device__ void find_head_weights(const AttentionParams& attention, int u, int head, const float* row,
                                    const float* ring, float* weight) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int dim = static_cast<int>(attention.head_dim);
    const int num_keys = rows[u].num_keys;
    const bool is_softmax = attention.kind == AttentionKind::kSoftmax;
    const float scale = 1.0f / sqrtf(static_cast<float>(dim));
    const float factor = 1.0f / static_cast<float>(window());
    constexpr float kLowest = -__builtin_inff();
    float top = kLowest;
#pragma unroll 1
    for (int key = lane; key < num_keys; key += kWarp) {
      const int distance = num_keys - 1 - key;
      const float bias = attention_bias(attention, head, distance, buckets[u * buckets_stride + distance]);
      const float* const q[1] = {row};
      float dot[1] = {};
      const float* k = distance == 0 ? row + params.shape.dim : ring + rows[u].place_of(key, window()) * width();
      add_dot_products(q, k, dim, dot);
      const float logit = fmaf(dot[0], scale, bias);
      weight[key] = is_softmax ? logit : factor * smooth_silu(logit);
      top = fmaxf(top, logit);
    }
    if (!is_softmax) return;
    top = warp_reduce(top, Max());
    if (top == kLowest) top = 0.0f;  // all weights are 0
#pragma unroll 1
    for (int key = lane; key < num_keys; key += kWarp) weight[key] = expf(weight[key] - top);
  }

  // By one warp. The same sums in the same order as sum_values.
  __device__ void sum_head_values(const AttentionParams& attention, int u, int head, const float* row,
                                  const float* ring, const float* weight) const {
    const int dim = static_cast<int>(attention.head_dim);
    const NewestRow place = rows[u];
#pragma unroll 1
    for (int c = static_cast<int>(threadIdx.x) % kWarp; c < dim; c += kWarp) {
      const float* values = ring + params.shape.dim + c;
      float sum = 0.0f;
      float total = 0.0f;
      // Keys past the last have weight 0. Several loads at once, as each takes long.
      constexpr int kAtOnce = 16;
      const int others = place.num_keys - 1;
#pragma unroll 1
      for (int first = 0; first < others; first += kAtOnce) {
        float value[kAtOnce];
        for (int i = 0; i < kAtOnce; ++i) {
          value[i] = values[place.place_of(min(first + i, others - 1), window()) * width()];
        }
        for (int i = 0; i < kAtOnce; ++i) {
          const float of_key = first + i < others ? weight[first + i] : 0.0f;
          sum = fmaf(of_key, value[i], sum);
          total += of_key;
        }
      }
      const float own = weight[place.num_keys - 1];
      sum = fmaf(own, row[2 * params.shape.dim + c], sum);
      total += own;
      const bool is_softmax = attention.kind == AttentionKind::kSoftmax;
      normed.row(u)[head * dim + c] = is_softmax ? weighted_mean(sum, total) : sum;
    }
  }

  __device__ void keep_keys(int layer) const {
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < count * width(); i += kEncoderThreads) {
      const int u = i / width();
      const int c = i - u * width();
      if (rows[u].num_events == 0) continue;
      float* ring = state(u).keys_values + layer * window() * width();
      ring[rows[u].place * width() + c] = projected.row(u)[params.shape.dim + c];
    }
  }
};

}  // namespace lsif::cuda
