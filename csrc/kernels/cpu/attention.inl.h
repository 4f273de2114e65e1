// Queries are taken in tiles of kAttentionTile, whose keys are transposed once, and inside a tile in blocks of up to
// kMaxRows, which share the loads of keys and values. Scores are vectors over the keys, outputs vectors over head_dim.
#pragma once

#include "kernels/attention.h"
#include "kernels/cpu/elapsed.inl.h"
#include "kernels/cpu/multiply_add.inl.h"
#include "kernels/cpu/simd.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

static_assert(kMaxRows <= kAttentionRows && kLanes <= kAttentionSlack);

// One call: its arguments and how its scratch is divided. Every part ends with room for a vector to be read past its
// end.
struct AttentionCall {
  const AttentionParams* params;
  const AttentionInput* input;
  int64_t first_query;
  float* y;
  int64_t y_stride;
  float scale;           // 1 / sqrt(head_dim)
  int64_t keys_stride;   // columns of `keys`
  int64_t row_stride;    // columns of `scores` and `time_bias`
  float* position_bias;  // [num_heads, window]: params->position_bias with the distance descending, as keys ascend
  float* keys;           // [key_heads * head_dim, keys_stride]: the tile's keys, transposed
  float* time_bias;      // [kMaxRows, num_heads, row_stride]: of one block of queries
  float* scores;         // [kMaxRows, row_stride]: of one block and head; then the weights
};

// The first key of query i.
LSIF_INLINE int64_t first_key(const AttentionCall& call, int64_t i) { return larger(0, i - call.params->window + 1); }

inline void reverse_position_bias(const AttentionCall& call) {
  const int64_t window = call.params->window;
  for (int64_t h = 0; h < call.params->num_heads; ++h) {
    for (int64_t d = 0; d < window; ++d) {
      call.position_bias[h * window + window - 1 - d] = call.params->position_bias[h * window + d];
    }
  }
}

// A block of kLanes x kLanes: interleaving row i with row i + kLanes / 2 log2(kLanes) times over transposes it.
LSIF_INLINE void transpose_block(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  Vec rows[kLanes];
  for (int i = 0; i < kLanes; ++i) rows[i] = load(from + i * from_stride);
  for (int done = 1; done < kLanes; done *= 2) {
    Vec mixed[kLanes];
    for (int i = 0; i < kLanes / 2; ++i) interleave(rows[i], rows[i + kLanes / 2], mixed[2 * i], mixed[2 * i + 1]);
    for (int i = 0; i < kLanes; ++i) rows[i] = mixed[i];
  }
  for (int i = 0; i < kLanes; ++i) store(to + i * to_stride, rows[i]);
}

inline void transpose_keys(const AttentionCall& call, int64_t begin, int64_t end) {
  const int64_t columns = call.params->key_heads() * call.params->head_dim;
  const int64_t stride = call.input->stride;
  const float* k = call.input->k + begin * stride;
  int64_t j = 0;
  for (; j + kLanes <= end - begin; j += kLanes, k += kLanes * stride) {
    int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) {
      transpose_block(k + c, stride, call.keys + c * call.keys_stride + j, call.keys_stride);
    }
    for (; c < columns; ++c) {
      for (int64_t r = 0; r < kLanes; ++r) call.keys[c * call.keys_stride + j + r] = k[r * stride + c];
    }
  }
  for (; j < end - begin; ++j, k += stride) {
    for (int64_t c = 0; c < columns; ++c) call.keys[c * call.keys_stride + j] = k[c];
  }
}

// time_bias[h][j - first_key(i)] for one query and all heads. The bucket walks along the boundaries from key to key:
// few steps where times are sorted, and right where they are not.
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
      for (int64_t c = 0; c < keys; ++c) to[c] = from[buckets[c]];
    }
  }
}

// scores[r][c] = q_{row + r} . k_{begin + c} for the columns up to `end`, rounded up to whole vectors; `keys` points to
// the head's transposed keys from `begin` on.
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

// The bias of each key and the weights' function, in place, over the n keys of one query; weights past them are
// garbage. Returns the factor the weighted sum of values is still to be multiplied with.
inline float softmax_weights(float* s, const float* position, const float* time, int64_t n, float scale) {
  const auto biased = [&](int64_t c) {
    const Vec z = fma(load(s + c), broadcast(scale), load(position + c));
    return time == nullptr ? z : z + load(time + c);
  };
  constexpr float kLowest = -__builtin_inff();
  Vec highest = broadcast(kLowest);
  int64_t c = 0;
  for (; c + kLanes <= n; c += kLanes) {
    const Vec z = biased(c);
    store(s + c, z);
    highest = max(highest, z);
  }
  if (c < n) {
    const Vec z = keep_first(biased(c), n - c, kLowest);
    store(s + c, z);
    highest = max(highest, z);
  }
  const Vec top = broadcast(max_lanes(highest));
  Vec total = broadcast(0.0f);
  for (c = 0; c < n; c += kLanes) {
    const Vec e = exp(load(s + c) - top);
    store(s + c, e);
    total = total + e;
  }
  return 1.0f / sum_lanes(total);
}

inline float silu_weights(float* s, const float* position, const float* time, int64_t n, float scale, int64_t window) {
  for (int64_t c = 0; c < n; c += kLanes) {
    const Vec z = fma(load(s + c), broadcast(scale), load(position + c));
    store(s + c, silu(time == nullptr ? z : z + load(time + c)));
  }
  return 1.0f / static_cast<float>(window);
}

// y[row + r] = factor[r] sum_j weights[r][j - begin] v_j over each query's own keys: first the older keys that not all
// queries of the block see, then those that all see together, then the newer ones. Every query still adds its keys in
// ascending order.
template <int kRows>
inline void weighted_values(const AttentionCall& call, int64_t row, int64_t head, const float* factor) {
  const int64_t head_dim = call.params->head_dim;
  const int64_t v_stride = call.input->stride;
  const float* v = call.input->v + call.params->key_column(head);
  float* y = call.y + (row - call.first_query) * call.y_stride + head * head_dim;
  const int64_t begin = first_key(call, row);
  const int64_t shared_begin = first_key(call, row + kRows - 1);
  const int64_t shared_end = larger(row + 1, shared_begin);
  const auto add_own = [&](int r, int64_t from, int64_t to) {
    if (from >= to) return;
    accumulate<1>(call.scores + r * call.row_stride + from - begin, 0, v + from * v_stride, v_stride, to - from,
                  y + r * call.y_stride, 0, head_dim);
  };
  for (int r = 0; r < kRows; ++r) {
    float* to = y + r * call.y_stride;
    for (int64_t c = 0; c < head_dim; ++c) to[c] = 0.0f;
    add_own(r, first_key(call, row + r), smaller(shared_begin, row + r + 1));
  }
  if (shared_begin < shared_end) {
    accumulate<kRows>(call.scores + shared_begin - begin, call.row_stride, v + shared_begin * v_stride, v_stride,
                      shared_end - shared_begin, y, call.y_stride, head_dim);
  }
  for (int r = 0; r < kRows; ++r) {
    add_own(r, shared_end, row + r + 1);
    float* to = y + r * call.y_stride;
    for (int64_t c = 0; c < head_dim; ++c) to[c] *= factor[r];
  }
}

// Queries row .. row + kRows - 1; call.keys holds the keys from `tile_begin` on.
template <int kRows>
inline void attend(const AttentionCall& call, int64_t tile_begin, int64_t row) {
  constexpr int kVecs = kPanelVecs > 2 ? kPanelVecs : 2;
  constexpr int kWide = kAccumulators / kRows < 4 ? kAccumulators / kRows : 4;
  const AttentionParams& params = *call.params;
  const bool timed = params.time_bias != nullptr;
  const int64_t begin = first_key(call, row);
  const int64_t columns = row + kRows - begin;
  if (timed) {
    for (int r = 0; r < kRows; ++r)
      fill_time_bias(call, row + r, call.time_bias + r * params.num_heads * call.row_stride);
  }
  for (int64_t h = 0; h < params.num_heads; ++h) {
    const float* q = call.input->q + (row - call.first_query) * call.input->q_stride + h * params.head_dim;
    const float* keys = call.keys + params.key_column(h) * call.keys_stride + begin - tile_begin;
    int64_t c = 0;
    if constexpr (kWide > kVecs) {
      for (; c + (kWide - 1) * kLanes < columns; c += kWide * kLanes)
        score_block<kRows, kWide>(call, q, keys + c, call.scores + c);
    }
    for (; c + (kVecs - 1) * kLanes < columns; c += kVecs * kLanes)
      score_block<kRows, kVecs>(call, q, keys + c, call.scores + c);
    for (; c < columns; c += kLanes) score_block<kRows, 1>(call, q, keys + c, call.scores + c);
    float factor[kRows];
    for (int r = 0; r < kRows; ++r) {
      const int64_t from = first_key(call, row + r);
      const int64_t n = row + r + 1 - from;
      float* s = call.scores + r * call.row_stride + from - begin;
      const float* position = call.position_bias + (h + 1) * params.window - n;
      const float* time = timed ? call.time_bias + (r * params.num_heads + h) * call.row_stride : nullptr;
      factor[r] = params.kind == AttentionKind::kSoftmax
                      ? softmax_weights(s, position, time, n, call.scale)
                      : silu_weights(s, position, time, n, call.scale, params.window);
    }
    weighted_values<kRows>(call, row, h, factor);
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
  call.scale = 1.0f / __builtin_sqrtf(static_cast<float>(params.head_dim));
  call.keys_stride = parts.keys_stride;
  call.row_stride = parts.row_stride;
  call.position_bias = scratch;
  call.keys = call.position_bias + parts.position_bias;
  call.time_bias = call.keys + parts.keys;
  call.scores = call.time_bias + parts.time_bias;
  reverse_position_bias(call);
  for (int64_t tile = first_query; tile < input.seq_len; tile += kAttentionTile) {
    const int64_t tile_end = smaller(tile + kAttentionTile, input.seq_len);
    const int64_t tile_begin = first_key(call, tile);
    transpose_keys(call, tile_begin, tile_end);
    for_row_blocks(tile, tile_end, [&](auto rows, int64_t row) { attend<rows.value>(call, tile_begin, row); });
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
