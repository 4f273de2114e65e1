// Scores of one interest in float32, with an error bound. They rule out most rows that are not among the k best, so
// that few need an exact score (docs/score_topk.md, "Scores in float32").
#pragma once

#include <math.h>

#include "kernels/cpu/simd.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

constexpr double kMostInFloat32 = 0x1p126;  // above this, partial sums might overflow
constexpr int64_t kRowsAhead = 16;          // rows prefetched ahead of the one being scored
constexpr int64_t kMaxBytesAhead = 512;

// The largest error of an inner product in float32, or infinity if it is unknown. Takes the norms of the query and of
// the largest row, and the largest bias. Subnormal numbers may be flushed to 0.
inline double float32_error(double query_norm, double row_norm, double bias, int64_t dim) {
  const double size = query_norm * row_norm * (1 + 0x1p-20);
  if (!(size + bias < kMostInFloat32)) return HUGE_VAL;
  const auto roundings = static_cast<double>(dim + 4);
  const double flushed = 0x1p-126 * (1 + query_norm + row_norm);
  return roundings * (0x1p-24 / (1 - roundings * 0x1p-24) * size + flushed);
}

// If a row scores at least `score` in float32, its exact score, rounded to float32, is not below the result; the same
// holds with float32 and exact score exchanged. Both are sums with a bias, rounded once.
inline double below_score(double score, double error) {
  const double size = (score < 0 ? -score : score) + error;
  return score - error - 0x1p-21 * size;
}

// A float32 number <= x.
inline float float_below(double x) { return static_cast<float>(x - (x < 0 ? -x : x) * 0x1p-23 - 0x1p-149); }

inline void prefetch_row(const CatalogView& catalog, int64_t item) {
  const auto* row = reinterpret_cast<const uint8_t*>(catalog.vectors + item * catalog.dim);
  const int64_t size = catalog.dim * 4 < kMaxBytesAhead ? catalog.dim * 4 : kMaxBytesAhead;
  for (int64_t i = 0; i < size; i += kLineBytes) __builtin_prefetch(row + i);
  if (catalog.bias != nullptr) __builtin_prefetch(catalog.bias + item);
}

// Lane r of the result is the sum over a[r]'s lanes.
LSIF_INLINE Vec sum_each(Vec (&a)[kLanes]) {
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int r = 0; r < half; ++r) {
      Vec low, high;
      interleave(a[r], a[r + half], low, high);
      a[r] = low + high;
    }
  }
  return a[0];
}

// Lane r: q . rows[r].
LSIF_INLINE Vec dot_rows(const float* q, const float* const (&rows)[kLanes], int64_t dim) {
  Vec dots[kLanes];
  for (int r = 0; r < kLanes; ++r) dots[r] = broadcast(0.0f);
  int64_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    const Vec part = load(q + i);
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) dots[r] = fma(part, load(rows[r] + i), dots[r]);
  }
  if (i < dim) {
    const Vec part = load_first(q + i, dim - i);
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) dots[r] = fma(part, load_first(rows[r] + i, dim - i), dots[r]);
  }
  return sum_each(dots);
}

// kLanes rows of a catalogue.
struct RowVectors {
  const float* vectors[kLanes];
  float bias[kLanes] = {};

  LSIF_INLINE void set(const CatalogView& catalog, int r, int64_t row) {
    vectors[r] = catalog.vectors + row * catalog.dim;
    if (catalog.bias != nullptr) bias[r] = catalog.bias[row];
  }
};

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
