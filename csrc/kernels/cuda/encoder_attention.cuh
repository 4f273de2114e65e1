// Attention by one block of threads, of rows it has in its own memory                                 (encode_users.cu,
// user_states.cu)
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/attention_bias.cuh"
#include "kernels/cuda/encoder_linear.cuh"

namespace lsif::cuda {

inline constexpr int kQueries = 4;  // of one head, that a warp answers together

// For each query and key of its window the bucket of the time between them: [query][query - key]. All layers and heads
// have the same.
using Bucket = uint16_t;

// Floats of shared memory block_attention needs: a warp's logits of kQueries queries for all keys of their windows.
constexpr int64_t encoder_scores_size(int64_t window, int64_t most_rows) {
  const int64_t keys = (window < most_rows ? window : most_rows) + kQueries - 1;
  return kEncoderWarps * kQueries * keys;
}

struct EncoderAttention {
  const float* q;  // row 0 of each
  const float* k;
  const float* v;
  int stride;
  const Bucket* buckets;  // or null: all 0
};

// query_time(i): the time row i is asked about.
template <typename QueryTime>
__device__ void block_buckets(const AttentionParams& params, const int64_t* times, QueryTime query_time, int count,
                              Bucket* buckets) {
  const int window = static_cast<int>(params.window);
  for (int place = static_cast<int>(threadIdx.x); place < count * window; place += kEncoderThreads) {
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
  for (const int vector_dim = dim % 4 == 0 ? dim : 0; c < vector_dim; c += 4) {  // rows begin at 16 bytes
    const float4 key = *reinterpret_cast<const float4*>(k + c);
    for (int t = 0; t < kCount; ++t) {
      const float4 query = *reinterpret_cast<const float4*>(q[t] + c);
      dots[t] = fmaf(query.x, key.x, dots[t]);
      dots[t] = fmaf(query.y, key.y, dots[t]);
      dots[t] = fmaf(query.z, key.z, dots[t]);
      dots[t] = fmaf(query.w, key.w, dots[t]);
    }
  }
  for (; c < dim; ++c) {
    for (int t = 0; t < kCount; ++t) dots[t] = fmaf(q[t][c], k[c], dots[t]);
  }
}

// One warp: queries base .. base + num_queries - 1 of one head. Sums over keys are chains in ascending order, in which
// keys outside a query's window have the weight 0, so a row's result does not depend on which it is answered with.
__device__ inline void attend_queries(const AttentionParams& params, const EncoderAttention& input, int head, int base,
                                      int num_queries, float* y, int y_stride, float4* weights) {
  const int window = static_cast<int>(params.window);
  const int dim = static_cast<int>(params.head_dim);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first_key = max(base - window + 1, 0);
  const int num_keys = base + num_queries - first_key;
  const float* k = input.k + first_key * input.stride + params.key_column(head);
  const float* v = input.v + first_key * input.stride + params.key_column(head);
  const float scale = 1.0f / sqrtf(static_cast<float>(dim));
  const float factor = 1.0f / static_cast<float>(window);
  const bool is_softmax = params.kind == AttentionKind::kSoftmax;
  constexpr float kLowest = -__builtin_inff();
  const float* q[kQueries];
  float top[kQueries];
  for (int t = 0; t < kQueries; ++t) {
    q[t] = input.q + (base + min(t, num_queries - 1)) * input.stride + head * dim;
    top[t] = kLowest;
  }
  for (int key = lane; key < num_keys; key += kWarp) {
    float logits[kQueries] = {};
    add_dot_products(q, k + key * input.stride, dim, logits);
    for (int t = 0; t < kQueries; ++t) {
      const int distance = base + t - first_key - key;
      if (t >= num_queries || distance < 0 || distance >= window) {
        logits[t] = is_softmax ? kLowest : 0.0f;
        continue;
      }
      const int64_t bucket = input.buckets == nullptr ? 0 : input.buckets[(base + t) * window + distance];
      logits[t] = fmaf(logits[t], scale, attention_bias(params, head, distance, bucket));
      if (!is_softmax) logits[t] = factor * silu(logits[t]);
      top[t] = fmaxf(top[t], logits[t]);
    }
    weights[key] = {logits[0], logits[1], logits[2], logits[3]};
  }
  if (is_softmax) {
    for (int t = 0; t < kQueries; ++t) {
      top[t] = warp_reduce(top[t], Max());
      if (top[t] == kLowest) top[t] = 0.0f;  // no such query, or one whose weights are all 0
    }
    for (int key = lane; key < num_keys; key += kWarp) {
      const float4 logits = weights[key];
      weights[key] = {expf(logits.x - top[0]), expf(logits.y - top[1]), expf(logits.z - top[2]),
                      expf(logits.w - top[3])};
    }
  }
  __syncwarp();
  for (int c = lane; c < dim; c += kWarp) {
    float sums[kQueries] = {};
    float totals[kQueries] = {};
    for (int key = 0; key < num_keys; ++key) {
      const float4 w = weights[key];
      const float value = v[key * input.stride + c];
      const float of_key[kQueries] = {w.x, w.y, w.z, w.w};
      for (int t = 0; t < kQueries; ++t) {
        sums[t] = fmaf(of_key[t], value, sums[t]);
        totals[t] += of_key[t];
      }
    }
    for (int t = 0; t < num_queries; ++t) {
      y[(base + t) * y_stride + head * dim + c] = is_softmax ? weighted_mean(sums[t], totals[t]) : sums[t];
    }
  }
  __syncwarp();  // the next queries overwrite the weights
}

// Rows first_query .. count - 1 of y. q, k, v and buckets may have been written just before; when this returns, every
// thread may read y. scores: encoder_scores_size(window, count) floats of shared memory.
__device__ inline void block_attention(const AttentionParams& params, const EncoderAttention& input, int first_query,
                                       int count, const RowsView& y, float* scores) {
  __syncthreads();
  const int num_heads = static_cast<int>(params.num_heads);
  const int num_tasks = static_cast<int>(divide_up(count - first_query, kQueries)) * num_heads;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int keys = min(static_cast<int>(params.window), count) + kQueries - 1;
  float4* weights = reinterpret_cast<float4*>(scores) + warp * keys;
  for (int task = warp; task < num_tasks; task += kEncoderWarps) {
    const int base = first_query + task / num_heads * kQueries;
    attend_queries(params, input, task % num_heads, base, min(kQueries, count - base), y.data, y.stride, weights);
  }
  __syncthreads();
}

}  // namespace lsif::cuda
