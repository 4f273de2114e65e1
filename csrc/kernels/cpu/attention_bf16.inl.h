// The products of attention in bfloat16. Keys are paired along head_dim and transposed; values are paired by key. A
// query's pairs begin at its first key, so that it adds the same numbers in the same order wherever that key lies in a
// tile.
#pragma once

#include "kernels/cpu/attention_keys.inl.h"
#include "kernels/cpu/bfloat16.inl.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

inline void transpose_key_pairs(const AttentionCall& call, int64_t begin, int64_t end) {
  const AttentionParams& params = *call.params;
  const int64_t pairs = (params.head_dim + 1) / 2;
  for (int64_t h = 0; h < params.key_heads(); ++h) {
    for (int64_t p = 0; p < pairs; p += kLanes) {
      const float* k = call.input->k + h * params.head_dim + 2 * p;
      const int64_t n = smaller(params.head_dim - 2 * p, 2 * kLanes);
      float* to = call.keys + (h * pairs + p) * call.keys_stride;
      for (int64_t j = begin; j < end; j += kLanes) {
        Vec rows[kLanes];
        for (int i = 0; i < kLanes; ++i)
          rows[i] = j + i < end ? round_pairs(k + (j + i) * call.input->stride, n) : broadcast(0.0f);
        transpose(rows);
        for (int i = 0; i < kLanes && p + i < pairs; ++i) store(to + i * call.keys_stride + j - begin, rows[i]);
      }
    }
  }
}

// Pairs the values from key `begin` on; an odd last one is paired with zeros.
inline void pair_values(const AttentionCall& call, int64_t begin, int64_t end, float* to) {
  const int64_t columns = call.params->key_heads() * call.params->head_dim;
  const int64_t stride = call.input->stride;
  for (int64_t j = begin; j < end; j += 2, to += columns) {
    const float* v = call.input->v + j * stride;
    for (int64_t c = 0; c < columns; c += kLanes) {
      const int64_t n = smaller(columns - c, kLanes);
      store(to + c, round_beside(load_first(v + c, n), j + 1 < end ? load_first(v + stride + c, n) : broadcast(0.0f)));
    }
  }
}

inline void lay_out_pairs(const AttentionCall& call, int64_t tile, int64_t tile_end) {
  const int64_t begin = first_key(call, tile);
  transpose_key_pairs(call, begin, tile_end);
  pair_values(call, begin, tile_end, call.values[0]);
  if (first_key(call, tile_end - 1) > begin) pair_values(call, begin + 1, tile_end, call.values[1]);
}

template <int kRows, int kVecs>
LSIF_INLINE void multiply_pairs(const AttentionCall& call, const float* b, int64_t b_stride, int64_t pairs,
                                Vec (&acc)[kRows][kVecs]) {
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) acc[r][v] = broadcast(0.0f);
  }
  multiply_add_pairs<kRows, kVecs>(call.rounded, call.rounded_stride, reinterpret_cast<const uint16_t*>(b), b_stride,
                                   kLinearPanel, pairs, acc);
}

// Like score_keys in attention.inl.h.
template <int kRows>
inline void score_key_pairs(const AttentionCall& call, const float* q, int64_t head, int64_t skipped, int64_t columns) {
  const AttentionParams& params = *call.params;
  const int64_t pairs = (params.head_dim + 1) / 2;
  const float* keys = call.keys + (params.shared_keys ? 0 : head) * pairs * call.keys_stride + skipped;
  for (int r = 0; r < kRows; ++r)
    round_to_bf16(q + r * call.input->q_stride, params.head_dim, call.rounded + r * call.rounded_stride);
  for_vecs<kRows>(columns, kLanes - 1, [&](auto vecs, int64_t c) {
    Vec acc[kRows][vecs.value];
    multiply_pairs(call, keys + c, call.keys_stride, pairs, acc);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < vecs.value; ++v) store(call.scores + r * call.row_stride + c + v * kLanes, acc[r][v]);
    }
  });
}

// Computes y for the listed queries of a block from `pairs` pairs of values; call.rounded holds their weights.
template <int kRows>
inline void add_value_pairs(const AttentionCall& call, const int (&queries)[kMaxRows], const float* values,
                            int64_t pairs, const float* factor, float* y) {
  const int64_t head_dim = call.params->head_dim;
  for_vecs<kRows>(head_dim, kLanes - 1, [&](auto vecs, int64_t c) {
    Vec acc[kRows][vecs.value];
    multiply_pairs(call, values + c, call.params->key_heads() * head_dim, pairs, acc);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < vecs.value; ++v) {
        const int64_t column = c + v * kLanes;
        store_first(y + queries[r] * call.y_stride + column, acc[r][v] * broadcast(factor[queries[r]]),
                    smaller(head_dim - column, kLanes));
      }
    }
  });
}

// Like weighted_values in attention.inl.h: first the queries whose first key begins a pair in values[0], then the
// others.
template <int kRows>
inline void weighted_value_pairs(const AttentionCall& call, int64_t tile_begin, int64_t row, int64_t head,
                                 int64_t begin, const float* factor) {
  const AttentionParams& params = *call.params;
  float* y = call.y + (row - call.first_query) * call.y_stride + head * params.head_dim;
  for (int64_t odd = 0; odd < 2; ++odd) {
    const int64_t skipped = (begin - tile_begin + odd) % 2;
    const int64_t keys = row + kRows - begin - skipped;
    int queries[kMaxRows];
    int count = 0;
    for (int r = 0; r < kRows; ++r) {
      if ((first_key(call, row + r) - tile_begin) % 2 != odd) continue;
      round_to_bf16(call.scores + r * call.row_stride + skipped, keys, call.rounded + count * call.rounded_stride);
      queries[count++] = r;
    }
    const int64_t first_pair = (begin + skipped - tile_begin) / 2;
    const float* values =
        call.values[odd] + first_pair * params.key_heads() * params.head_dim + params.key_column(head);
    with_rows<kRows>(count, 0, [&](auto rows, int64_t) {
      add_value_pairs<rows.value>(call, queries, values, (keys + 1) / 2, factor, y);
    });
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
