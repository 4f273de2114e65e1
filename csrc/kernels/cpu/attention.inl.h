// Queries are processed in tiles of kAttentionTile, whose keys are transposed once. Within a tile they are processed in
// blocks of up to kMaxRows, which share the loads of keys and values. Scores are vectorized over the keys, outputs over
// head_dim.
#pragma once

#include "kernels/attention.h"
#include "kernels/cpu/attention_bf16.inl.h"
#include "kernels/cpu/attention_keys.inl.h"
#include "kernels/cpu/multiply_add.inl.h"
#include "kernels/cpu/simd.h"
#include "kernels/elapsed.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// time_bias[h][j - first_key(i)] for one query and all heads. The bucket search starts from the previous key's bucket:
// correct for any times, and only a few steps if they are sorted.
inline void fill_time_bias(const AttentionCall& call, int64_t i, float* time_bias) {
  constexpr int64_t kChunk = 64;
  const AttentionParams& params = *call.params;
  const AttentionInput& input = *call.input;
  const int64_t num_buckets = params.num_time_boundaries + 2;
  const int64_t query_time = input.query_times == nullptr ? kUnknownTime : input.query_times[i];
  const bool unknown = query_time == kUnknownTime || input.times == nullptr;
  int64_t passed = 0;  // boundaries at or below the elapsed time
  int32_t buckets[kChunk];
  for (int64_t begin = first_key(call, i); begin <= i; begin += kChunk, time_bias += kChunk) {
    const int64_t keys = smaller(kChunk, i + 1 - begin);
    for (int64_t c = 0; c < keys; ++c) {
      buckets[c] = 0;
      if (unknown || input.times[begin + c] == kUnknownTime) continue;
      const int64_t dt = elapsed(input.times[begin + c], query_time);
      while (passed < params.num_time_boundaries && params.time_boundaries[passed] <= dt) ++passed;
      while (passed > 0 && params.time_boundaries[passed - 1] > dt) --passed;
      buckets[c] = static_cast<int32_t>(1 + passed);
    }
    for (int64_t h = 0; h < params.num_heads; ++h) {
      float* to = time_bias + h * call.row_stride;
      const float* from = params.time_bias + h * num_buckets;
      for (int64_t c = 0; c < keys; ++c) to[c] = from[buckets[c]] * call.unit;
    }
  }
}

// scores[r][c] = q_r . k_c for kRows queries and kVecs vectors of keys; `keys` points to the head's transposed keys
// from the first of them on.
template <int kRows, int kVecs>
LSIF_INLINE void score_block(const AttentionCall& call, const float* q, const float* keys, float* scores) {
  Vec acc[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) acc[r][v] = broadcast(0.0f);
  }
  multiply_add<kRows, kVecs>(q, call.input->q_stride, keys, call.keys_stride, kLinearPanel, call.params->head_dim,
                             kVecs * kLanes, acc);
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) store(scores + r * call.row_stride + v * kLanes, acc[r][v]);
  }
}

// The scores of a query over the keys it sees, and the biases to add.
struct ScoreRow {
  float* s;
  const float* position;
  const float* time;  // or null
  int64_t n;
};

LSIF_INLINE Vec biased(const ScoreRow& row, int64_t c, float scale) {
  const Vec z = fma(load(row.s + c), broadcast(scale), load(row.position + c));
  return row.time == nullptr ? z : z + load(row.time + c);
}

// In place; -inf past the last key, up to a whole vector. Returns the maximum.
inline float add_biases(const ScoreRow& row, float scale) {
  constexpr float kLowest = -__builtin_inff();
  Vec highest = broadcast(kLowest);
  int64_t c = 0;
  for (; c + kLanes <= row.n; c += kLanes) {
    const Vec z = biased(row, c, scale);
    store(row.s + c, z);
    highest = max(highest, z);
  }
  if (c < row.n) {
    const Vec z = keep_first(biased(row, c, scale), row.n - c, kLowest);
    store(row.s + c, z);
    highest = max(highest, z);
  }
  return max_lanes(highest);
}

// 2^(s - top), in place; returns their sum, by lane.
inline Vec exponentials(const ScoreRow& row, float top) {
  Vec total = broadcast(0.0f);
  for (int64_t c = 0; c < row.n; c += kLanes) {
    const Vec e = exp2(load(row.s + c) - broadcast(top));
    store(row.s + c, e);
    total = total + e;
  }
  return total;
}

// In place; 0 past the last key, up to a whole vector.
inline void silu_weights(const ScoreRow& row, float scale) {
  for (int64_t c = 0; c < row.n; c += kLanes) {
    const Vec weight = silu(biased(row, c, scale));
    store(row.s + c, row.n - c < kLanes ? keep_first(weight, row.n - c, 0.0f) : weight);
  }
}

// y[r] = factor[r] sum_j weights[r][j] v_j for kRows rows and kVecs vectors of head_dim.
template <int kRows, int kVecs, bool kPartial>
LSIF_INLINE void value_block(const AttentionCall& call, const float* v, int64_t keys, const float* factor,
                             int64_t columns, float* y) {
  Vec acc[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kVecs; ++c) acc[r][c] = broadcast(0.0f);
  }
  multiply_add<kRows, kVecs, kPartial>(call.scores, call.row_stride, v, call.input->stride, kLinearPanel, keys, columns,
                                       acc);
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kVecs; ++c) {
      const Vec scaled = acc[r][c] * broadcast(factor[r]);
      if (kPartial) {
        store_first(y + r * call.y_stride, scaled, columns);
      } else {
        store(y + r * call.y_stride + c * kLanes, scaled);
      }
    }
  }
}

// Over the keys from `begin` on. Keys a query does not see have weight 0, which leaves the bits of its sum unchanged.
template <int kRows>
inline void weighted_values(const AttentionCall& call, int64_t row, int64_t head, int64_t begin, const float* factor) {
  const int64_t head_dim = call.params->head_dim;
  const int64_t keys = row + kRows - begin;
  const float* v = call.input->v + begin * call.input->stride + call.params->key_column(head);
  float* y = call.y + (row - call.first_query) * call.y_stride + head * head_dim;
  const int64_t whole = head_dim / kLanes * kLanes;
  for_vecs<kRows>(whole, 0, [&](auto vecs, int64_t c) {
    value_block<kRows, vecs.value, false>(call, v + c, keys, factor, 0, y + c);
  });
  if (whole < head_dim) value_block<kRows, 1, true>(call, v + whole, keys, factor, head_dim - whole, y + whole);
}

// Computes call.scores for a block of queries and one head, over the keys from `begin` on.
template <int kRows>
inline void score_keys(const AttentionCall& call, const float* q, const float* keys, int64_t columns) {
  for_vecs<kRows>(columns, kLanes - 1,
                  [&](auto vecs, int64_t c) { score_block<kRows, vecs.value>(call, q, keys + c, call.scores + c); });
}

// Replaces the scores of a block of queries over `columns` keys from `begin` on by weights, 0 for keys not seen.
// factor[r]: a factor still to be applied to row r's weighted sum of values.
template <int kRows>
inline void weigh_keys(const AttentionCall& call, int64_t row, int64_t head, int64_t begin, int64_t columns,
                       float (&factor)[kRows]) {
  const AttentionParams& params = *call.params;
  ScoreRow rows[kRows];
  for (int r = 0; r < kRows; ++r) {
    const int64_t from = first_key(call, row + r);
    const int64_t n = row + r + 1 - from;
    const float* time = call.time_bias + (r * params.num_heads + head) * call.row_stride;
    rows[r] = {call.scores + r * call.row_stride + from - begin, call.position_bias + (head + 1) * params.window - n,
               params.time_bias == nullptr ? nullptr : time, n};
  }
  if (params.kind == AttentionKind::kSoftmax) {  // each step for all rows, to hide latency
    float top[kRows];
    Vec total[kRows];
    for (int r = 0; r < kRows; ++r) top[r] = add_biases(rows[r], call.scale);
    for (int r = 0; r < kRows; ++r) total[r] = exponentials(rows[r], top[r]);
    for (int r = 0; r < kRows; ++r) factor[r] = 1.0f / sum_lanes(total[r]);
  } else {
    for (int r = 0; r < kRows; ++r) silu_weights(rows[r], call.scale);
    for (int r = 0; r < kRows; ++r) factor[r] = 1.0f / static_cast<float>(params.window);
  }
  for (int r = 0; r < kRows; ++r) {
    float* weights = call.scores + r * call.row_stride;
    for (float* w = weights; w < rows[r].s; ++w) *w = 0;
    for (float* w = rows[r].s + rows[r].n; w < weights + columns; ++w) *w = 0;
  }
}

// Handles queries row .. row + kRows - 1; call.keys holds the keys from `tile_begin` on.
template <int kRows>
inline void attend(const AttentionCall& call, int64_t tile_begin, int64_t row) {
  const AttentionParams& params = *call.params;
  const int64_t begin = first_key(call, row);
  const int64_t columns = row + kRows - begin;
  if (params.time_bias != nullptr) {
    for (int r = 0; r < kRows; ++r)
      fill_time_bias(call, row + r, call.time_bias + r * params.num_heads * call.row_stride);
  }
  for (int64_t h = 0; h < params.num_heads; ++h) {
    const float* q = call.input->q + (row - call.first_query) * call.input->q_stride + h * params.head_dim;
    if (params.bf16) {
      score_key_pairs<kRows>(call, q, h, begin - tile_begin, columns);
    } else {
      const float* keys = call.keys + params.key_column(h) * call.keys_stride + begin - tile_begin;
      score_keys<kRows>(call, q, keys, columns);
    }
    float factor[kRows];
    weigh_keys(call, row, h, begin, columns, factor);
    if (params.bf16) {
      weighted_value_pairs<kRows>(call, tile_begin, row, h, begin, factor);
    } else {
      weighted_values<kRows>(call, row, h, begin, factor);
    }
  }
}

void attention(const AttentionParams& params, const AttentionInput& input, int64_t first_query, float* y,
               int64_t y_stride, float* scratch) {
  const AttentionScratch parts = attention_scratch(params, input.seq_len);
  AttentionCall call = {};
  call.params = &params;
  call.input = &input;
  call.first_query = first_query;
  call.y = y;
  call.y_stride = y_stride;
  call.unit = params.kind == AttentionKind::kSoftmax ? 1.44269504f : 1.0f;
  call.scale = call.unit / __builtin_sqrtf(static_cast<float>(params.head_dim));
  call.keys_stride = parts.keys_stride;
  call.row_stride = parts.row_stride;
  call.position_bias = scratch;
  call.keys = call.position_bias + parts.position_bias;
  call.time_bias = call.keys + parts.keys;
  call.scores = call.time_bias + parts.time_bias;
  call.values[0] = call.scores + parts.scores;
  call.values[1] = call.values[0] + parts.values / 2;
  call.rounded = reinterpret_cast<Rounded*>(call.values[0] + parts.values);
  call.rounded_stride = parts.rounded_stride;
  reverse_position_bias(call);
  for (int64_t tile = first_query; tile < input.seq_len; tile += kAttentionTile) {
    const int64_t tile_end = smaller(tile + kAttentionTile, input.seq_len);
    const int64_t tile_begin = first_key(call, tile);
    if (params.bf16) {
      lay_out_pairs(call, tile, tile_end);
    } else {
      transpose_keys(call, tile_begin, tile_end);
    }
    for_row_blocks(tile, tile_end, [&](auto rows, int64_t row) { attend<rows.value>(call, tile_begin, row); });
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
