// Blocks of groups of a catalogue's codes, and the upper bounds of rows (docs/score_topk.md); rows whose bound is not
// below the threshold are kept. Included by topk_scan.inl.h and topk_interests.inl.h.
//
// Bounds are float32. Their last bits differ between ISAs, which is harmless: they only decide which rows are scored
// exactly.
#pragma once

#include <math.h>
#include <stddef.h>

#include "kernels/cpu/simd_int4.h"
#include "kernels/cpu/topk_candidates.inl.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

constexpr int64_t kBlockGroups = kScanBlock / kGroupRows;
// At most this many bytes of codes, or one group, so that they stay in the L1 cache. 16 groups of 128 dimensions take
// less.
constexpr int64_t kBlockBytes = 20480;

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

// Groups that stay in the cache while all queries scan them.
struct Block {
  Side sides[kBlockGroups];
  const CatalogView* catalog;
  const uint8_t* groups;
  int64_t stride;     // bytes per group
  int64_t num_lines;  // lines of codes per group
  int64_t ahead;      // bytes from a group to the same one in the next block; 0 if that is already prefetched
  int64_t num_groups;
  int64_t first_item;
  int64_t last_item;
  alignas(kLineBytes) Dots products[kMaxScoreInterests][kTileGroups<kMaxTileVectors>];  // for several interests

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

// Such that |q - t p| |c| + |q| r <= |q| missed_rows for all vectors of a tile; `missed` is the largest among them.
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

// The bracketed part of the bound q.x <= s (t p.c + |q - t p| |c| + |q| r).
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

__attribute__((noinline)) void keep_rows(const Block& block, int64_t group, uint32_t mask, GroupFloats upper,
                                         QueryScan& scan) {
  const int64_t first_item = block.first_item + group * kGroupRows;
  if (block.last_item - first_item < kGroupRows) mask &= (1u << (block.last_item - first_item)) - 1;
  keep_candidates(*block.catalog, scan, upper, first_item, mask);
}

// Not inlined: a compiler that sees the uses of the sums, too, runs out of registers in the inner loop.
template <int kVectors, int kGroups>
__attribute__((noinline)) void dot_groups(const Block& block, int64_t group, const VectorScan* vectors,
                                          Dots (&dots)[kVectors][kGroups]) {
  dot_tile(block.lines(group), block.stride, block.num_lines, block.ahead, vectors, dots);
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
