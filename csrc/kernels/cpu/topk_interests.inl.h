// The bounds of several interests for topk_scan.inl.h and topk_cells.inl.h (docs/score_topk.md).
#pragma once

#include <math.h>

#include "kernels/cpu/exp2_above.inl.h"
#include "kernels/cpu/topk_block.inl.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

constexpr float kLeastSum = 0x1p-60f;  // certainly normal

// Replaces normal x > 0 by log x, to within 2^-21 (|log x| + 1/4). With x = 2^e m, 1/2 <= m^2 < 2, and s = (m - 1) / (m
// + 1): log m = 2 (s + s^3 / 3 + s^5 / 5 + ..).
inline void take_logs(float (&x)[kGroupRows]) {
  constexpr int32_t kRootOfHalf = 0x3f3504f3;  // bits of the least m
  for (int64_t i = 0; i < kGroupRows; ++i) {
    const int32_t above = float_bits(x[i]) - kRootOfHalf;
    const int32_t exponent = above >> 23;
    const float m = __builtin_bit_cast(float, (above & 0x7fffff) + kRootOfHalf);
    const float s = (m - 1.0f) / (m + 1.0f);
    const float t = s * s;
    const float series = 1.0f + t * (1.0f / 3 + t * (1.0f / 5 + t * (1.0f / 7 + t * (1.0f / 9))));
    x[i] = static_cast<float>(exponent) * 0.693147181f + 2.0f * s * series;
  }
}

// Multiplies a group, or all groups of a tile, with all interests.
template <int kVectors, int kGroups>
LSIF_INLINE void multiply_tiles(const Block& block, int64_t group, const VectorScan* vectors, int64_t num_vectors,
                                Dots (*products)[kGroups]) {
  for (; num_vectors >= kVectors; vectors += kVectors, products += kVectors, num_vectors -= kVectors) {
    dot_groups(block, group, vectors, reinterpret_cast<Dots(&)[kVectors][kGroups]>(*products));
  }
  if constexpr (kVectors > 1) multiply_tiles<kVectors / 2>(block, group, vectors, num_vectors, products);
}

template <int kGroups>
LSIF_INLINE Dots (*multiply_interests(Block& block, int64_t group, const QueryScan& scan)) [kGroups] {
  auto* products = reinterpret_cast<Dots(*)[kGroups]>(&block.products);
  multiply_tiles<kMaxTileVectors>(block, group, scan.vectors, scan.query->num_interests, products);
  return products;
}

// The rows for which sum_j w_j exp((u_j + b - threshold) / tau) may be >= 1.
template <int kGroups>
LSIF_INLINE uint32_t
    reaching_rows(const QueryScan& scan, const Side& side, const Dots (*products)[kGroups], int64_t group) {
  const GroupFloats rows = missed_rows(side, scan.missed);
  GroupFloats scales;
  GroupFloats scaled_rows;
  GroupFloats offsets;
  GroupFloats sums;
  for (int i = 0; i < kVecs; ++i) {
    scales.v[i] = side.scales.v[i] * broadcast(scan.binary);
    scaled_rows.v[i] = scales.v[i] * rows.v[i];
    offsets.v[i] = fma(side.biases.v[i], broadcast(scan.binary), broadcast(scan.offset));
    sums.v[i] = broadcast(0.0f);
  }
  for (int64_t j = 0; j < scan.query->num_interests; ++j) {
    const VectorScan& vector = scan.vectors[j];
    const GroupFloats dots = to_floats(products[j][group]);
    for (int i = 0; i < kVecs; ++i) {
      const Vec missed = fma(scaled_rows.v[i], broadcast(vector.norm), offsets.v[i]);
      const Vec exponent = fma(scales.v[i], dots.v[i] * broadcast(vector.scale), missed);
      sums.v[i] = fma(broadcast(vector.weight), exp2_above(exponent), sums.v[i]);
    }
  }
  return not_below(sums, broadcast(1.0f));
}

// The bound tau log sum_j w_j exp(u_j / tau) + b or, if smaller, one of two bounds of it without exponentials. u_j is
// the bound of q_j . x, with `rows` as its error term; zero gives the score of the codes themselves.
template <int kGroups>
__attribute__((noinline)) GroupFloats score_bound(const QueryScan& scan, const Side& side, const GroupFloats& rows,
                                                  const Dots (*products)[kGroups], int64_t group) {
  const int64_t num_interests = scan.query->num_interests;
  GroupFloats largest;
  GroupFloats weighted;
  for (int i = 0; i < kVecs; ++i) largest.v[i] = weighted.v[i] = broadcast(-HUGE_VALF);
  for (int64_t j = 0; j < num_interests; ++j) {
    const VectorScan& vector = scan.vectors[j];
    const GroupFloats bound = unscaled_bound(vector, rows, products[j][group]);
    for (int i = 0; i < kVecs; ++i) {
      largest.v[i] = max(largest.v[i], side.scales.v[i] * bound.v[i]);
      weighted.v[i] = max(weighted.v[i], fma(side.scales.v[i], bound.v[i], broadcast(vector.log_weight)));
    }
  }
  GroupFloats upper;
  for (int i = 0; i < kVecs; ++i) {
    upper.v[i] = min(largest.v[i] + broadcast(scan.log_total), weighted.v[i] + broadcast(scan.log_count));
  }
  if (scan.temperature != 0) {
    GroupFloats sums;
    for (int i = 0; i < kVecs; ++i) sums.v[i] = broadcast(0.0f);
    const Vec factor = broadcast(1.0f / scan.temperature);
    for (int64_t j = 0; j < num_interests; ++j) {
      const VectorScan& vector = scan.vectors[j];
      const GroupFloats bound = unscaled_bound(vector, rows, products[j][group]);
      for (int i = 0; i < kVecs; ++i) {
        const Vec below = (side.scales.v[i] * bound.v[i] - largest.v[i]) * factor;
        sums.v[i] = fma(broadcast(vector.weight), exp(below), sums.v[i]);
      }
    }
    float logs[kGroupRows];
    for (int i = 0; i < kVecs; ++i) store(logs + i * kLanes, sums.v[i]);
    bool is_known[kGroupRows];
    for (int64_t r = 0; r < kGroupRows; ++r) is_known[r] = logs[r] > kLeastSum;
    take_logs(logs);
    for (int64_t r = 0; r < kGroupRows; ++r) logs[r] = is_known[r] ? scan.temperature * logs[r] : HUGE_VALF;
    for (int i = 0; i < kVecs; ++i) {
      const Vec log_sum = load(logs + i * kLanes) + broadcast(scan.log_total);
      upper.v[i] = min(upper.v[i], largest.v[i] + log_sum);
    }
  }
  for (int i = 0; i < kVecs; ++i) upper.v[i] = upper.v[i] + side.biases.v[i];
  return upper;
}

// The bounds of a group's rows; sets in `mask` the bits of the rows that are not below the threshold.
template <int kGroups>
LSIF_INLINE GroupFloats bound_interests(const QueryScan& scan, const Side& side, const Dots (*products)[kGroups],
                                        int64_t group, uint32_t& mask) {
  const bool can_test = scan.temperature != 0 && scan.threshold > -HUGE_VALF;
  mask = can_test ? reaching_rows<kGroups>(scan, side, products, group) : (1u << kGroupRows) - 1;
  if (mask == 0) [[likely]]
    return {};
  const GroupFloats upper = score_bound<kGroups>(scan, side, missed_rows(side, scan.missed), products, group);
  mask &= not_below(upper, broadcast(scan.threshold));
  return upper;
}

template <int kGroups>
inline void scan_interests(Block& block, int64_t group, QueryScan& scan) {
  const auto* products = multiply_interests<kGroups>(block, group, scan);
  for (int g = 0; g < kGroups; ++g) {
    uint32_t mask = 0;
    const GroupFloats upper = bound_interests<kGroups>(scan, block.sides[group + g], products, g, mask);
    if (mask != 0) [[unlikely]]
      keep_rows(block, group + g, mask, upper, scan);
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
