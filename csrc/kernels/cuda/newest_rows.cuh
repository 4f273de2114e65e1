// The newest event of user states, through the blocks, by one block of threads                         (user_states.cu)
#pragma once

#include "kernels/cuda/attention_bias.cuh"
#include "kernels/cuda/encoder_attention.cuh"
#include "kernels/cuda/encoder_user.cuh"
#include "kernels/cuda/user_states.h"

namespace lsif::cuda {

struct NewestEvent {
  int64_t num_events;  // of the history
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

  __device__ State of(int64_t user) const {
    unsigned char* state = slots.states + slots.slots[user] * layout.size;
    return {
        reinterpret_cast<NewestEvent*>(state + layout.newest), reinterpret_cast<int64_t*>(state + layout.key_times),
        reinterpret_cast<double*>(state + layout.maximum),     reinterpret_cast<double*>(state + layout.denominator),
        reinterpret_cast<double*>(state + layout.numerator),   reinterpret_cast<float*>(state + layout.keys_values),
        reinterpret_cast<float*>(state + layout.states)};
  }
};

// Of the newest events.
struct NewestIds {
  States states;
  int64_t first_user;

  __device__ int64_t item(int u) const { return states.of(first_user + u).newest->item; }
  __device__ int64_t action(int u) const { return states.of(first_user + u).newest->action; }
};

// Floats of shared memory, multiples of 4.
struct StateSizes {
  int64_t weights;  // of keys, for each warp
  int64_t buckets;  // of a user
  int64_t user;     // of a user, buckets included
  int projected_stride;
};

constexpr StateSizes state_sizes(const EncoderShape& s) {
  StateSizes sizes = {};
  sizes.weights = round_up_to_4(s.window);
  sizes.buckets = round_up_to_4(static_cast<int64_t>(sizeof(Bucket)) * s.window / 4 + 1);
  sizes.projected_stride = static_cast<int>(padded_stride(s.projected_dim > s.ffn_dim ? s.projected_dim : s.ffn_dim));
  sizes.user = 2 * padded_stride(s.dim) + sizes.projected_stride + sizes.buckets;
  return sizes;
}

constexpr int64_t fixed_size(const EncoderShape& s) {
  return kStages * kStageFloats + kEncoderWarps * state_sizes(s).weights;
}

// One row a user, from the newest event's embedding to its state, by all threads of a block.
struct NewestRows {
  const EncoderParams& params;
  const States& states;
  int64_t first_user;
  int count;  // of users
  float* weights;
  RowsView x;
  RowsView normed;
  RowsView projected;
  Bucket* buckets;  // [count, window]
  int buckets_stride;

  __device__ NewestRows(const EncoderParams& p, const States& s, int64_t first, int num_users, BlockArena& arena)
      : params(p), states(s), first_user(first), count(num_users) {
    const StateSizes sizes = state_sizes(p.shape);
    const int stride = static_cast<int>(padded_stride(p.shape.dim));
    weights = weight_stages() + kStages * kStageFloats;
    x = arena.rows(count, stride);
    normed = arena.rows(count, stride);
    projected = arena.rows(count, sizes.projected_stride);
    buckets = reinterpret_cast<Bucket*>(arena.take(count * sizes.buckets));
    buckets_stride = static_cast<int>(sizes.buckets * 4 / static_cast<int64_t>(sizeof(Bucket)));
  }

  __device__ State state(int u) const { return states.of(first_user + u); }
  __device__ int window() const { return static_cast<int>(params.shape.window); }

  // The number of the newest event; that of users without any does not matter.
  __device__ int64_t row_of(const State& s) const { return s.newest->num_events > 0 ? s.newest->num_events - 1 : 0; }

  // asked(u): the time user u's row is asked about. kKeep: keys, values and times become the state's.
  template <bool kKeep, typename Asked>
  __device__ void run(Asked asked) {
    find_buckets(asked);
    embed(params.embedding, NewestIds{states, first_user}, count, x);
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

  // Of each key of the window by its distance; 0 is the row itself.
  template <typename Asked>
  __device__ void find_buckets(Asked asked) const {
    for (int i = static_cast<int>(threadIdx.x); i < count * window(); i += kEncoderThreads) {
      const int u = i / window();
      const int distance = i % window();
      const State s = state(u);
      const int64_t key = row_of(s) - distance;
      if (key < 0) continue;
      const int64_t time = distance == 0 ? s.newest->time : s.key_times[key % window()];
      const bool is_timed = params.use_times && params.blocks[0].attention.time_bias != nullptr;
      buckets[u * buckets_stride + distance] =
          is_timed ? static_cast<Bucket>(time_bucket(params.blocks[0].attention, asked(u), time)) : Bucket{0};
    }
  }

  __device__ void attend(const AttentionParams& attention, int layer) const {
    const int num_heads = static_cast<int>(attention.num_heads);
    for (int task = static_cast<int>(threadIdx.x) / kWarp; task < count * num_heads; task += kEncoderWarps) {
      attend_head(attention, layer, task / num_heads, task % num_heads);
    }
  }

  // One warp. The same sums in the same order as attend_queries.
  __device__ void attend_head(const AttentionParams& attention, int layer, int u, int head) const {
    const State s = state(u);
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int dim = static_cast<int>(attention.head_dim);
    const int width = 2 * static_cast<int>(params.shape.dim);
    const int64_t row = row_of(s);
    const int num_keys = static_cast<int>(row + 1 < window() ? row + 1 : window());
    const float* own = projected.row(u) + head * dim;  // queries, keys, values
    const float* ring = s.keys_values + static_cast<int64_t>(layer) * window() * width + head * dim;
    const auto keys_of = [&](int key) {
      const int64_t place = row - (num_keys - 1 - key);
      return key + 1 == num_keys ? own + params.shape.dim : ring + place % window() * width;
    };
    float* weight = weights + static_cast<int>(threadIdx.x) / kWarp * state_sizes(params.shape).weights;
    const bool is_softmax = attention.kind == AttentionKind::kSoftmax;
    const float scale = 1.0f / sqrtf(static_cast<float>(dim));
    const float factor = 1.0f / static_cast<float>(window());
    constexpr float kLowest = -__builtin_inff();
    float top = kLowest;
    for (int key = lane; key < num_keys; key += kWarp) {
      const float* const q[1] = {own};
      float dot[1] = {};
      add_dot_products(q, keys_of(key), dim, dot);
      const int distance = num_keys - 1 - key;
      const float bias = attention_bias(attention, head, distance, buckets[u * buckets_stride + distance]);
      const float logit = fmaf(dot[0], scale, bias);
      weight[key] = is_softmax ? logit : factor * silu(logit);
      top = fmaxf(top, logit);
    }
    top = warp_reduce(top, Max());
    if (top == kLowest) top = 0.0f;  // all weights are 0
    for (int key = lane; is_softmax && key < num_keys; key += kWarp) weight[key] = expf(weight[key] - top);
    __syncwarp();
    for (int c = lane; c < dim; c += kWarp) {
      float sum = 0.0f;
      float total = 0.0f;
      for (int key = 0; key < num_keys; ++key) {
        sum = fmaf(weight[key], keys_of(key)[params.shape.dim + c], sum);
        total += weight[key];
      }
      normed.row(u)[head * dim + c] = is_softmax ? weighted_mean(sum, total) : sum;
    }
    __syncwarp();  // the next head overwrites the weights
  }

  // At a place that no row of this window has.
  __device__ void keep_keys(int layer) const {
    const int width = 2 * static_cast<int>(params.shape.dim);
    for (int i = static_cast<int>(threadIdx.x); i < count * width; i += kEncoderThreads) {
      const State s = state(i / width);
      if (s.newest->num_events == 0) continue;
      const int64_t place = static_cast<int64_t>(layer) * window() + row_of(s) % window();
      s.keys_values[place * width + i % width] = projected.row(i / width)[params.shape.dim + i % width];
    }
  }
};

}  // namespace lsif::cuda
