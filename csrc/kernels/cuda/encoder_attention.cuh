// Attention by one block of threads, for the rows in its own memory                                   (encode_users.cu,
// user_states.cu)
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/attention_bias.cuh"
#include "kernels/cuda/encoder_linear.cuh"

namespace lsif::cuda {

inline constexpr int kQueries = 4;  // of one head, processed together by a warp

// For each query and each key of its window, the bucket of their time difference: [query][query - key]. It is the same
// for all layers and heads.
using Bucket = uint16_t;

inline constexpr int kKeys = 4;  // keys a thread accumulates at once

// Keys for which a warp holds weights of kQueries queries: those of their windows, up to a multiple of kKeys.
constexpr int64_t most_weights(int64_t window, int64_t most_rows) {
  return divide_up((window < most_rows ? window : most_rows) + kQueries - 1, kKeys) * kKeys;
}

// Floats of shared memory block_attention needs.
constexpr int64_t encoder_scores_size(int64_t window, int64_t most_rows) {
  return kEncoderWarps * kQueries * most_weights(window, most_rows);
}

struct EncoderAttention {
  const float* q;  // row 0 of each
  const float* k;
  const float* v;
  int q_stride;
  int stride;             // of k and v
  const Bucket* buckets;  // or null: all 0
};

// Shared memory for one head's keys and values, used if the input's are in global memory; or none.
struct KeyRoom {
  float* data;
  int64_t size;
};

// For queries first .. last - 1. query_time(i): the time row i is queried at.
template <typename QueryTime>
__device__ void block_buckets(const AttentionParams& params, const int64_t* times, QueryTime query_time, int first,
                              int last, Bucket* buckets) {
  const int window = static_cast<int>(params.window);
#pragma unroll 1
  for (int place = first * window + static_cast<int>(threadIdx.x); place < last * window; place += kEncoderThreads) {
    const int query = place / window;
    const int key = query - place % window;
    if (key < 0) continue;
    buckets[place] = static_cast<Bucket>(time_bucket(params, query_time(query), times[key]));
  }
}

// dots[t] += q[t].k, as everywhere in ascending order of columns.
template <int kCount>
__device__ void add_dot_products(const float* const (&q)[kCount], const float* k, int dim, float (&dots)[kCount]) {
  int c = 0;
#pragma unroll(kCount == 1 ? 8 : 4)
  for (const int vector_dim = dim % 4 == 0 ? dim : 0; c < vector_dim; c += 4) {  // rows are 16-byte aligned
    const float4 key = *reinterpret_cast<const float4*>(k + c);
    for (int t = 0; t < kCount; ++t) {
      const float4 query = *reinterpret_cast<const float4*>(q[t] + c);
      dots[t] = fmaf(query.x, key.x, dots[t]);
      dots[t] = fmaf(query.y, key.y, dots[t]);
      dots[t] = fmaf(query.z, key.z, dots[t]);
      dots[t] = fmaf(query.w, key.w, dots[t]);
    }
  }
#pragma unroll 1
  for (; c < dim; ++c) {
    for (int t = 0; t < kCount; ++t) dots[t] = fmaf(q[t][c], k[c], dots[t]);
  }
}

// Queries of one head that a warp processes together.
struct QueryGroup {
  int head;
  int first;  // query
  int count;  // 1 .. kQueries
  int first_key;
  int num_keys;

  __device__ QueryGroup(const AttentionParams& params, int head_, int first_, int count_)
      : head(head_), first(first_), count(count_) {
    first_key = max(first - static_cast<int>(params.window) + 1, 0);
    num_keys = first + count - first_key;
  }

  // Includes padding after the last key, which no query sees.
  __device__ int padded_keys() const { return (num_keys + kKeys - 1) / kKeys * kKeys; }

  __device__ bool sees(const AttentionParams& params, int t, int distance) const {
    return t < count && distance >= 0 && distance < static_cast<int>(params.window);
  }
};

// The biases of a key for all queries. If a query does not see the key, loads that of another: a branch would serialize
// the loads.
__device__ inline void find_biases(const AttentionParams& params, const EncoderAttention& input,
                                   const QueryGroup& group, int key, float (&biases)[kQueries]) {
  const int window = static_cast<int>(params.window);
  int distances[kQueries];
  for (int t = 0; t < kQueries; ++t) {
    const int distance = group.first + t - group.first_key - key;
    distances[t] = group.sees(params, t, distance) ? distance : 0;
    biases[t] = params.position_bias[group.head * window + distances[t]];
  }
  if (params.time_bias == nullptr) return;
  assume_global(params.time_bias);
  const float* time_bias = params.time_bias + group.head * (params.num_time_boundaries + 2);
  int buckets[kQueries] = {};
  for (int t = 0; t < kQueries && input.buckets != nullptr; ++t) {
    buckets[t] = input.buckets[(group.first + min(t, group.count - 1)) * window + distances[t]];
  }
  for (int t = 0; t < kQueries; ++t) biases[t] += time_bias[buckets[t]];
}

// Computes the logits of all keys or, without softmax, their weights. A query's weight for a key it does not see is 0.
__device__ inline void find_weights(const AttentionParams& params, const EncoderAttention& input,
                                    const QueryGroup& group, float4* weights) {
  const int dim = static_cast<int>(params.head_dim);
  const float* k = input.k + group.first_key * input.stride + params.key_column(group.head);
  const float scale = 1.0f / sqrtf(static_cast<float>(dim));
  const float factor = 1.0f / static_cast<float>(params.window);
  const bool is_softmax = params.kind == AttentionKind::kSoftmax;
  constexpr float kLowest = -__builtin_inff();
  const float unseen = is_softmax ? kLowest : 0.0f;
  const float* q[kQueries];
  float top[kQueries];
  for (int t = 0; t < kQueries; ++t) {
    q[t] = input.q + (group.first + min(t, group.count - 1)) * input.q_stride + group.head * dim;
    top[t] = kLowest;
  }
#pragma unroll 1
  for (int key = static_cast<int>(threadIdx.x) % kWarp; key < group.padded_keys(); key += kWarp) {
    float biases[kQueries];
    find_biases(params, input, group, key, biases);
    float logits[kQueries] = {};
    add_dot_products(q, k + min(key, group.num_keys - 1) * input.stride, dim, logits);
    for (int t = 0; t < kQueries; ++t) logits[t] = fmaf(logits[t], scale, biases[t]);
    if (!is_softmax) {
      for (int t = 0; t < kQueries; ++t) logits[t] = factor * smooth_silu(logits[t]);
    }
    for (int t = 0; t < kQueries; ++t) {
      if (!group.sees(params, t, group.first + t - group.first_key - key)) logits[t] = unseen;
      top[t] = fmaxf(top[t], logits[t]);
    }
    weights[key] = {logits[0], logits[1], logits[2], logits[3]};
  }
  if (!is_softmax) return;
  warp_reduce(top, Max());
  for (int t = 0; t < kQueries; ++t) {
    if (top[t] == kLowest) top[t] = 0.0f;  // the query does not exist, or all its weights are 0
  }
#pragma unroll 1
  for (int key = static_cast<int>(threadIdx.x) % kWarp; key < group.padded_keys(); key += kWarp) {
    const float4 logits = weights[key];
    weights[key] = {expf(logits.x - top[0]), expf(logits.y - top[1]), expf(logits.z - top[2]), expf(logits.w - top[3])};
  }
}

// Sums the softmax denominators.
__device__ inline void sum_weights(const float4* weights, int num_keys, float (&totals)[kQueries]) {
#pragma unroll 4
  for (int key = 0; key < num_keys; ++key) {
    const float4 w = weights[key];
    const float of_key[kQueries] = {w.x, w.y, w.z, w.w};
    for (int t = 0; t < kQueries; ++t) totals[t] += of_key[t];
  }
}

// Adds kKeys keys to sums. kWhole: all exist; otherwise those past `last` have weight 0.
template <bool kWhole, int kColumns>
__device__ void add_values(const float* const (&values)[kColumns], int stride, const float4* weights, int first,
                           int last, float (&sums)[kColumns][kQueries]) {
  for (int key = first; key < first + kKeys; ++key) {
    const float4 w = weights[key];
    const float of_key[kQueries] = {w.x, w.y, w.z, w.w};
    for (int i = 0; i < kColumns; ++i) {
      const float value = values[i][(kWhole ? key : min(key, last)) * stride];
      for (int t = 0; t < kQueries; ++t) sums[i][t] = fmaf(of_key[t], value, sums[i][t]);
    }
  }
}

// A thread's kColumns columns, kWarp apart, of the queries' outputs. v: the first key's values.
template <int kColumns>
__device__ void sum_values(const float* v, int stride, const float4* weights, const QueryGroup& group, int column,
                           int dim, bool is_softmax, float* y, int y_stride) {
  float sums[kColumns][kQueries] = {};
  const float* values[kColumns];
  for (int i = 0; i < kColumns; ++i) values[i] = v + min(column + i * kWarp, dim - 1);
  int first = 0;
#pragma unroll 2
  for (; first + kKeys <= group.num_keys; first += kKeys) {
    add_values<true>(values, stride, weights, first, group.num_keys - 1, sums);
  }
  if (first < group.num_keys) add_values<false>(values, stride, weights, first, group.num_keys - 1, sums);
  if (is_softmax) {
    float totals[kQueries] = {};
    sum_weights(weights, group.num_keys, totals);
    for (int i = 0; i < kColumns; ++i) {
      for (int t = 0; t < kQueries; ++t) sums[i][t] = weighted_mean(sums[i][t], totals[t]);
    }
  }
  for (int i = 0; i < kColumns; ++i) {
    for (int t = 0; t < kQueries; ++t) {
      if (t < group.count && column + i * kWarp < dim) y[t * y_stride + column + i * kWarp] = sums[i][t];
    }
  }
}

// By one warp. Sums over keys are chains in ascending order, in which keys outside a query's window have weight 0. So a
// row's result does not depend on the queries it is grouped with.
__device__ inline void attend_queries(const AttentionParams& params, const EncoderAttention& input,
                                      const QueryGroup& group, const RowsView& y, float4* weights) {
  find_weights(params, input, group, weights);
  __syncwarp();
  const int dim = static_cast<int>(params.head_dim);
  const bool is_softmax = params.kind == AttentionKind::kSoftmax;
  const float* v = input.v + group.first_key * input.stride + params.key_column(group.head);
  float* of_head = y.row(group.first) + group.head * dim;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (dim <= kWarp) {
    if (lane < dim) sum_values<1>(v, input.stride, weights, group, lane, dim, is_softmax, of_head, y.stride);
  } else {
#pragma unroll 1
    for (int column = lane; column < dim; column += 2 * kWarp) {
      sum_values<2>(v, input.stride, weights, group, column, dim, is_softmax, of_head, y.stride);
    }
  }
  __syncwarp();  // the next queries overwrite the weights
}

// Handles queries first_query .. count - 1 of heads first_head .. last_head - 1.
__device__ __attribute__((noinline)) inline void attend_heads(AttentionParams params, EncoderAttention input,
                                                              int first_head, int last_head, int first_query, int count,
                                                              RowsView y, float4* weights) {
  assume_shared(weights);
  assume_global(params.position_bias);
  const int num_heads = last_head - first_head;
  const int num_tasks = static_cast<int>(divide_up(count - first_query, kQueries)) * num_heads;
#pragma unroll 1
  for (int task = static_cast<int>(threadIdx.x) / kWarp; task < num_tasks; task += kEncoderWarps) {
    const int first = first_query + task / num_heads * kQueries;
    const int head = first_head + task % num_heads;
    attend_queries(params, input, {params, head, first, min(kQueries, count - first)}, y, weights);
  }
}

__device__ inline void copy_rows(const float* from, int stride, int count, int columns, const RowsView& to) {
  const int pieces = columns / 4;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < count * pieces; i += kEncoderThreads) {
    const int row = i / pieces;
    const int column = (i - row * pieces) * 4;
    copy_async(to.row(row) + column, from + row * stride + column);
  }
}

// Computes rows first_query .. count - 1 of y. q, k, v and buckets may have been written just before; on return, every
// thread may read y. scores: encoder_scores_size(window, count) floats of shared memory. With room, y is in shared
// memory: it holds the queries until their results replace them, and room holds their keys.
__device__ inline void block_attention(const AttentionParams& params, const EncoderAttention& input, int first_query,
                                       int count, const RowsView& y, float* scores, const KeyRoom& room) {
  __syncthreads();
  const int num_heads = static_cast<int>(params.num_heads);
  const int window = static_cast<int>(params.window);
  const int dim = static_cast<int>(params.head_dim);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  float4* weights = reinterpret_cast<float4*>(scores) + warp * most_weights(window, count);
  const int stride = static_cast<int>(padded_stride(dim));
  const int most_keys = static_cast<int>(room.size) / (2 * stride);
  const int queries = (most_keys - window + 1) / kQueries * kQueries;  // per pass, so that keys fit in the room
  const bool is_worth_it = queries >= kQueries * kEncoderWarps / 2 || queries >= count - first_query;
  const bool is_copied = queries > 0 && is_worth_it && dim % 4 == 0;
  const int step = is_copied ? queries : count - first_query;
  const int heads = is_copied ? 1 : num_heads;  // processed together
#pragma unroll 1
  for (int pass = 0, passes = num_heads / heads; pass < passes; ++pass) {
#pragma unroll 1
    for (int first = first_query; first < count; first += step) {
      EncoderAttention near = input;
      const int end = min(first + step, count);
      if (is_copied) {
        const int first_key = max(first - window + 1, 0);
        const int column = static_cast<int>(params.key_column(pass));
        const RowsView k = {room.data, stride};
        const RowsView v = {room.data + most_keys * stride, stride};
        copy_rows(input.k + first_key * input.stride + column, input.stride, end - first_key, dim, k);
        copy_rows(input.v + first_key * input.stride + column, input.stride, end - first_key, dim, v);
        copy_rows(input.q + first * input.q_stride + pass * dim, input.q_stride, end - first, dim,
                  {y.row(first) + pass * dim, y.stride});
        near = {y.data, k.row(-first_key) - column, v.row(-first_key) - column, y.stride, stride, input.buckets};
        copy_async_wait();
        __syncthreads();
      }
      attend_heads(params, near, pass * heads, (pass + 1) * heads, first, end, y, weights);
      __syncthreads();
    }
  }
}

}  // namespace lsif::cuda
