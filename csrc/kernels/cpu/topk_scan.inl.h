// The scan of score_topk.inl.h: bounds of rows, of which those that are not below the threshold are kept.
// docs/score_topk.md derives the bounds and the slack for rounding used here.
//
// Bounds are float32; their last bits differ between ISAs, which is harmless: they only decide which rows are looked at
// exactly.
#pragma once

#include <math.h>
#include <stddef.h>

#include "kernels/cpu/simd_int4.h"
#include "kernels/cpu/topk_query.inl.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

constexpr int64_t kBlockGroups = kScanBlock / kGroupRows;
constexpr int64_t kBlockBytes = 16384;  // of codes at most, if that is a group: they stay in the first cache

constexpr float kLeastSum = 0x1p-60f;  // that is normal for sure
constexpr int kLeastRefined = 2;       // rows of a group; a single one is scored exactly in less time

// The bounds of a group's rows in the catalogue's units.
struct Side {
  GroupFloats scales;
  GroupFloats errors;
  GroupFloats biases;
  Vec code_norm;
};

inline float upper_half(uint16_t bits) { return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16); }

LSIF_INLINE Side read_side(const uint8_t* line, const Units& units) {
  GroupSide side;
  __builtin_memcpy(&side, line, sizeof(side));
  Side read;
  read.scales = load_bytes(line + offsetof(GroupSide, scales));
  read.errors = load_bytes(line + offsetof(GroupSide, errors));
  read.biases = load_bytes(line + offsetof(GroupSide, biases));
  read.code_norm = broadcast(upper_half(side.code_norm));
  const Vec bias_base = broadcast(side.bias_base * units.bias);
  const Vec bias_unit = broadcast(side.bias_unit * units.bias);
  for (int i = 0; i < kVecs; ++i) {
    read.scales.v[i] = read.scales.v[i] * broadcast(side.scale_unit * units.row);
    read.errors.v[i] = read.errors.v[i] * broadcast(upper_half(side.error_unit));
    read.biases.v[i] = fma(read.biases.v[i], bias_unit, bias_base) * broadcast(units.bias_factor);
  }
  return read;
}

// Groups that stay in the cache while all queries see them.
struct Block {
  Side sides[kBlockGroups];
  const CatalogView* catalog;
  const uint8_t* groups;
  int64_t stride;     // bytes of a group
  int64_t num_lines;  // of codes, a group
  int64_t ahead;      // from a group to that of the next block; 0 once that was fetched
  int64_t num_groups;
  int64_t first_item;
  int64_t last_item;

  const uint8_t* lines(int64_t group) const { return groups + group * stride + kLineBytes; }
};
static_assert(sizeof(Block) <= kBytesPerScan && sizeof(QueryScan) <= kBytesPerQuery);
static_assert(sizeof(VectorScan) <= kBytesPerVector && sizeof(Candidate) == kBytesPerCandidate);

inline void start_block(const CatalogView& catalog, int64_t first_item, int64_t last_item, Block& block) {
  block.catalog = &catalog;
  block.stride = group_bytes(catalog.dim);
  block.num_lines = group_lines(catalog.dim) - 1;
  block.groups = catalog.codes.groups + first_item / kGroupRows * block.stride;
  block.ahead = 0;
  block.first_item = first_item;
  block.last_item = last_item;
}

// |q - t p| |c| + |q| r <= |q| missed_rows for all vectors of a tile, in whose place `missed` is the largest.
LSIF_INLINE GroupFloats missed_rows(const Side& side, float missed) {
  GroupFloats rows;
  for (int i = 0; i < kVecs; ++i) rows.v[i] = fma(side.code_norm, broadcast(missed), side.errors.v[i]);
  return rows;
}

template <int kVectors>
inline float largest_missed(const VectorScan* vectors) {
  float largest = 0;
  for (int v = 0; v < kVectors; ++v) largest = vectors[v].missed > largest ? vectors[v].missed : largest;
  return largest;
}

// What of the bound q.x <= s (t p.c + |q - t p| |c| + |q| r) is in brackets.
LSIF_INLINE GroupFloats unscaled_bound(const VectorScan& vector, GroupFloats missed, Dots dots) {
  GroupFloats bound = to_floats(dots);
  for (int i = 0; i < kVecs; ++i) {
    bound.v[i] = fma(bound.v[i], broadcast(vector.scale), missed.v[i] * broadcast(vector.norm));
  }
  return bound;
}

LSIF_INLINE GroupFloats upper_bound(const VectorScan& vector, const Side& side, GroupFloats missed, Dots dots) {
  GroupFloats bound = unscaled_bound(vector, missed, dots);
  for (int i = 0; i < kVecs; ++i) bound.v[i] = fma(side.scales.v[i], bound.v[i], side.biases.v[i]);
  return bound;
}

// Keeps the rows of a group whose bits are set in `mask`.
__attribute__((noinline)) void keep_rows(const Block& block, int64_t group, uint32_t mask, GroupFloats upper,
                                         QueryScan& scan) {
  const int64_t first_item = block.first_item + group * kGroupRows;
  if (block.last_item - first_item < kGroupRows) mask &= (1u << (block.last_item - first_item)) - 1;
  keep_candidates(*block.catalog, scan, upper, first_item, mask);
}

// Apart from what uses the sums: a compiler that sees both runs out of registers in the inner loop.
template <int kVectors, int kGroups>
__attribute__((noinline)) void dot_groups(const Block& block, int64_t group, const VectorScan* vectors,
                                          Dots (&dots)[kVectors][kGroups]) {
  dot_tile(block.lines(group), block.stride, block.num_lines, block.ahead, vectors, dots);
}

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

// One interest each.
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

// Tiles of as many queries as possible, then of half as many, and so on.
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

// max_j u_j and max_j (u_j + tau log w_j) over the interests so far; the former still to be scaled.
struct Maxima {
  GroupFloats unscaled;
  GroupFloats weighted;
};

template <int kVectors, int kGroups>
LSIF_INLINE void add_interests(const Block& block, int64_t group, const VectorScan* vectors,
                               Maxima (&maxima)[kGroups]) {
  Dots dots[kVectors][kGroups];
  dot_groups(block, group, vectors, dots);
  const float missed = largest_missed<kVectors>(vectors);
  for (int g = 0; g < kGroups; ++g) {
    const Side& side = block.sides[group + g];
    const GroupFloats rows = missed_rows(side, missed);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const GroupFloats bound = unscaled_bound(vectors[v], rows, dots[v][g]);
      for (int i = 0; i < kVecs; ++i) {
        maxima[g].unscaled.v[i] = max(maxima[g].unscaled.v[i], bound.v[i]);
        const Vec weighted = fma(side.scales.v[i], bound.v[i], broadcast(vectors[v].log_weight));
        maxima[g].weighted.v[i] = max(maxima[g].weighted.v[i], weighted);
      }
    }
  }
}

template <int kVectors, int kGroups>
LSIF_INLINE void add_tiles(const Block& block, int64_t group, const VectorScan* vectors, int64_t num_vectors,
                           Maxima (&maxima)[kGroups]) {
  for (; num_vectors >= kVectors; vectors += kVectors, num_vectors -= kVectors) {
    add_interests<kVectors>(block, group, vectors, maxima);
  }
  if constexpr (kVectors > 1) add_tiles<kVectors / 2>(block, group, vectors, num_vectors, maxima);
}

// Adds the interests' w_j exp((u_j - largest) / tau) to sums.
template <int kVectors>
inline void add_exponentials(const Block& block, int64_t group, const QueryScan& scan, int64_t first,
                             const GroupFloats& largest, GroupFloats& sums) {
  const VectorScan* vectors = scan.vectors + first;
  int64_t left = scan.query->num_interests - first;
  const Side& side = block.sides[group];
  const Vec factor = broadcast(1.0f / scan.temperature);
  for (; left >= kVectors; vectors += kVectors, left -= kVectors) {
    Dots dots[kVectors][1];
    dot_groups(block, group, vectors, dots);
    const GroupFloats rows = missed_rows(side, largest_missed<kVectors>(vectors));
    for (int v = 0; v < kVectors; ++v) {
      const GroupFloats bound = unscaled_bound(vectors[v], rows, dots[v][0]);
      for (int i = 0; i < kVecs; ++i) {
        const Vec below = (side.scales.v[i] * bound.v[i] - largest.v[i]) * factor;
        sums.v[i] = fma(broadcast(vectors[v].weight), exp(below), sums.v[i]);
      }
    }
  }
  if constexpr (kVectors > 1) {
    add_exponentials<kVectors / 2>(block, group, scan, vectors - scan.vectors, largest, sums);
  }
}

// Lowers `upper` to tau log sum_j w_j exp(u_j / tau), which takes longer than the bound it replaces, for some rows.
__attribute__((noinline)) void refine_weighted(const Block& block, int64_t group, const QueryScan& scan,
                                               const GroupFloats& unscaled, uint32_t mask, GroupFloats& upper) {
  const Side& side = block.sides[group];
  GroupFloats largest;
  GroupFloats sums;
  for (int i = 0; i < kVecs; ++i) {
    largest.v[i] = side.scales.v[i] * unscaled.v[i];
    sums.v[i] = broadcast(0.0f);
  }
  add_exponentials<kMaxTileVectors>(block, group, scan, 0, largest, sums);
  float logs[kGroupRows];
  for (int i = 0; i < kVecs; ++i) store(logs + i * kLanes, sums.v[i]);
  for (int64_t r = 0; r < kGroupRows; ++r) {
    const bool is_known = (mask >> r & 1) != 0 && logs[r] > kLeastSum;
    logs[r] = is_known ? scan.temperature * static_cast<float>(::log(static_cast<double>(logs[r]))) : HUGE_VALF;
  }
  for (int i = 0; i < kVecs; ++i) {
    const Vec log_sum = load(logs + i * kLanes) + broadcast(scan.log_total);
    upper.v[i] = min(upper.v[i], (largest.v[i] + log_sum) + side.biases.v[i]);
  }
}

template <int kGroups>
inline void find_maxima(const Block& block, int64_t group, const QueryScan& scan, Maxima (&maxima)[kGroups]) {
  for (Maxima& of_group : maxima) {
    for (int i = 0; i < kVecs; ++i) of_group.unscaled.v[i] = of_group.weighted.v[i] = broadcast(-HUGE_VALF);
  }
  add_tiles<kMaxTileVectors>(block, group, scan.vectors, scan.query->num_interests, maxima);
}

LSIF_INLINE GroupFloats weighted_bound(const QueryScan& scan, const Side& side, const Maxima& maxima) {
  GroupFloats upper;
  for (int i = 0; i < kVecs; ++i) {
    const Vec by_total = fma(side.scales.v[i], maxima.unscaled.v[i], broadcast(scan.log_total));
    const Vec by_count = maxima.weighted.v[i] + broadcast(scan.log_count);
    upper.v[i] = min(by_total, by_count) + side.biases.v[i];
  }
  return upper;
}

template <int kGroups>
inline void scan_weighted(const Block& block, int64_t group, QueryScan& scan) {
  Maxima maxima[kGroups];
  find_maxima(block, group, scan, maxima);
  for (int g = 0; g < kGroups; ++g) {
    GroupFloats upper = weighted_bound(scan, block.sides[group + g], maxima[g]);
    uint32_t mask = not_below(upper, broadcast(scan.threshold));
    if (__builtin_popcount(mask) >= kLeastRefined && scan.temperature != 0) [[unlikely]] {
      refine_weighted(block, group + g, scan, maxima[g].unscaled, mask, upper);
      mask &= not_below(upper, broadcast(scan.threshold));
    }
    if (mask != 0) [[unlikely]]
      keep_rows(block, group + g, mask, upper, scan);
  }
}

// All queries have weights, or none has.
inline void scan_block(Block& block, QueryScan* queries, int64_t num_queries) {
  if (queries[0].query->weights == nullptr) {
    scan_tiles<kMaxTileVectors>(block, queries[0].vectors, num_queries);
    return;
  }
  constexpr int kGroups = kTileGroups<kMaxTileVectors>;
  for (int64_t q = 0; q < num_queries; ++q) {
    int64_t g = 0;
    for (; g + kGroups <= block.num_groups; g += kGroups) scan_weighted<kGroups>(block, g, queries[q]);
    for (; g < block.num_groups; ++g) scan_weighted<1>(block, g, queries[q]);
    block.ahead = 0;
  }
}

void scan_blocks(Block& block, const Units& units, QueryScan* queries, int64_t num_queries) {
  const int64_t fitting = kBlockBytes / block.stride / 2 * 2;
  const int64_t step = fitting < 1 ? 1 : fitting < kBlockGroups ? fitting : kBlockGroups;
  for (int64_t left = num_groups(block.last_item - block.first_item); left > 0; left -= step) {
    block.num_groups = left < step ? left : step;
    // Past the last block nothing is worth fetching.
    const int64_t ahead = left < 2 * step ? 0 : step * block.stride;
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

// One query with one interest reads the lines in the order they lie in, which memory is fastest at.
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

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
