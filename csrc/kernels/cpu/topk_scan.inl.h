// Scans for score_topk.inl.h: adjacent rows of a catalogue, in blocks that stay in the cache.
#pragma once

#include "kernels/cpu/topk_block.inl.h"
#include "kernels/cpu/topk_interests.inl.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

template <int kVectors, int kGroups>
__attribute__((noinline)) void keep_tile(const Block& block, int64_t group, const VectorScan* vectors, float missed,
                                         const Dots (&dots)[kVectors][kGroups]) {
  for (int v = 0; v < kVectors; ++v) {
    for (int g = 0; g < kGroups; ++g) {
      const Side& side = block.sides[group + g];
      const GroupFloats upper = upper_bound(vectors[v], side, missed_rows(side, missed), dots[v][g]);
      const uint32_t mask = not_below(upper, broadcast(vectors[v].threshold));
      if (mask != 0) keep_rows(block, group + g, mask, upper, *vectors[v].query);
    }
  }
}

// For queries of one interest each.
template <int kVectors, int kGroups>
inline void scan_groups(const Block& block, int64_t group, const VectorScan* vectors, float missed) {
  Dots dots[kVectors][kGroups];
  dot_groups(block, group, vectors, dots);
  uint32_t some = 0;
  for (int g = 0; g < kGroups; ++g) {
    const Side& side = block.sides[group + g];
    const GroupFloats rows = missed_rows(side, missed);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      some |= not_below(upper_bound(vectors[v], side, rows, dots[v][g]), broadcast(vectors[v].threshold));
    }
  }
  if (some != 0) [[unlikely]]
    keep_tile(block, group, vectors, missed, dots);
}

// Handles tiles of as many queries as possible, then of half as many, and so on.
template <int kVectors>
inline void scan_tiles(Block& block, const VectorScan* vectors, int64_t num_vectors) {
  for (; num_vectors >= kVectors; vectors += kVectors, num_vectors -= kVectors) {
    const float missed = largest_missed<kVectors>(vectors);
    int64_t g = 0;
    for (; g + kTileGroups<kVectors> <= block.num_groups; g += kTileGroups<kVectors>) {
      scan_groups<kVectors, kTileGroups<kVectors>>(block, g, vectors, missed);
    }
    for (; g < block.num_groups; ++g) scan_groups<kVectors, 1>(block, g, vectors, missed);
    block.ahead = 0;
  }
  if constexpr (kVectors > 1) scan_tiles<kVectors / 2>(block, vectors, num_vectors);
}

// Either all queries have weights or none has.
inline void scan_block(Block& block, QueryScan* queries, int64_t num_queries) {
  if (queries[0].query->weights == nullptr) {
    scan_tiles<kMaxTileVectors>(block, queries[0].vectors, num_queries);
    return;
  }
  constexpr int kGroups = kTileGroups<kMaxTileVectors>;
  for (int64_t q = 0; q < num_queries; ++q) {
    int64_t g = 0;
    for (; g + kGroups <= block.num_groups; g += kGroups) scan_interests<kGroups>(block, g, queries[q]);
    for (; g < block.num_groups; ++g) scan_interests<1>(block, g, queries[q]);
    block.ahead = 0;
  }
}

// A power of two, so that a region contains a whole number of blocks.
inline int64_t groups_of_block(int64_t stride) {
  int64_t groups = kBlockGroups;
  while (groups > 1 && groups * stride > kBlockBytes) groups /= 2;
  return groups;
}

// goes_on: whether the following rows are likely to be scanned next.
void scan_blocks(Block& block, const Units& units, QueryScan* queries, int64_t num_queries, bool goes_on) {
  const int64_t step = groups_of_block(block.stride);
  for (int64_t left = num_groups(block.last_item - block.first_item); left > 0; left -= step) {
    block.num_groups = left < step ? left : step;
    // After the last block there is nothing to prefetch.
    const int64_t ahead = left < 2 * step && !goes_on ? 0 : step * block.stride;
    for (int64_t g = 0; g < block.num_groups; ++g) {
      const uint8_t* line = block.groups + g * block.stride;
      __builtin_prefetch(line + ahead);
      block.sides[g] = read_side(line, units);
    }
    block.ahead = ahead;
    scan_block(block, queries, num_queries);
    block.groups += step * block.stride;
    block.first_item += step * kGroupRows;
  }
}

LSIF_INLINE GroupFloats stream_bound(const Block& block, const Units& units, const VectorScan& vector) {
  const Side side = read_side(block.groups, units);
  Dots dots[1][1];
  dot_tile(block.lines(0), block.stride, block.num_lines, block.ahead, &vector, dots);
  return upper_bound(vector, side, missed_rows(side, vector.missed), dots[0][0]);
}

// One query with one interest reads the lines in storage order, for which memory is fastest.
inline void scan_stream(Block& block, const Units& units, QueryScan& scan) {
  const VectorScan vector = scan.vectors[0];
  for (; block.first_item < block.last_item; block.first_item += kGroupRows) {
    const GroupFloats upper = stream_bound(block, units, vector);
    const uint32_t mask = not_below(upper, broadcast(scan.threshold));
    if (mask != 0) [[unlikely]]
      keep_rows(block, 0, mask, upper, scan);
    block.groups += block.stride;
  }
}

inline void scan_rows(Block& block, const Units& units, QueryScan* queries, int64_t num_queries, bool goes_on) {
  if (num_queries == 1 && queries[0].query->weights == nullptr) {
    scan_stream(block, units, queries[0]);
  } else {
    scan_blocks(block, units, queries, num_queries, goes_on);
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
