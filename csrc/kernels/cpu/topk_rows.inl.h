// Implements TopkRowsFn of kernels/score_topk.h: float32 scores of all listed rows, then exact ones of those that may
// be among the k best. docs/score_topk.md derives the error ("Few rows").
#pragma once

#include <math.h>

#include "kernels/cpu/topk_candidates.inl.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

constexpr float kLargestFloat = 0x1.fffffep127f;
constexpr int64_t kMaximaPerResult = 4;

// Of all rows; what bounds the errors of float32 scores.
struct LargestRow {
  double norm;  // >= |x|
  double bias;  // >= |b|
};

// Sets scores[q, i] to the score of rows[i], but for rounding; those of a line past the last row to -infinity.
inline LargestRow score_in_float32(const CatalogView& catalog, const int64_t* rows, int64_t num_rows,
                                   const TopkQuery* queries, int64_t num_queries, float* scores) {
  const int64_t dim = catalog.dim;
  const int64_t stride = row_scores_stride(num_rows);
  Vec squares = broadcast(0.0f);
  Vec biases = broadcast(0.0f);
  for (int64_t begin = 0; begin < stride; begin += kLanes) {
    const int64_t count = num_rows - begin;
    const float* vectors[kLanes];
    float bias[kLanes] = {};
    for (int r = 0; r < kLanes; ++r) {
      const int64_t row = rows[begin + r < num_rows ? begin + r : num_rows - 1];
      vectors[r] = catalog.vectors + row * dim;
      if (catalog.bias != nullptr) bias[r] = catalog.bias[row];
    }
    for (int64_t i = begin + kRowsAhead; i < begin + kRowsAhead + kLanes && i < num_rows; ++i) {
      prefetch_row(catalog, rows[i]);
    }
    const Vec b = load(bias);
    biases = max(biases, max(b, broadcast(0.0f) - b));
    for (int64_t q = 0; q < num_queries; ++q) {
      const Vec dots = q == 0 ? dot_rows<true>(queries[q].vectors, vectors, dim, squares)
                              : dot_rows<false>(queries[q].vectors, vectors, dim, squares);
      const Vec sums = dots + b;
      const int64_t kept = count < 0 ? 0 : count < kLanes ? count : kLanes;
      store(scores + q * stride + begin, keep_first(sums, kept, -HUGE_VALF));
    }
  }
  float lanes[kLanes];
  store(lanes, squares);
  double square = 0;
  for (const float lane : lanes) square += static_cast<double>(lane);
  const auto terms = static_cast<double>(dim);
  return {::sqrt(square * (1 + terms * 0x1p-23) + terms * 0x1p-126), static_cast<double>(max_lanes(biases))};
}

// float32_error() of all scores of this query.
inline double error_of(const TopkQuery& query, LargestRow largest, int64_t dim) {
  double square = 0;
  for (int64_t i = 0; i < dim; ++i) {
    square += static_cast<double>(query.vectors[i]) * static_cast<double>(query.vectors[i]);
  }
  return float32_error(::sqrt(square), largest.norm, largest.bias, dim);
}

// Rows that the query leaves out score -infinity. Both ascend: those of the shorter list are looked up in the other.
inline void leave_out_excluded(const TopkQuery& query, const int64_t* rows, int64_t num_rows, float* scores) {
  if (num_rows < query.num_exclude) {
    for (int64_t i = 0; i < num_rows; ++i) {
      if (is_excluded(query, rows[i])) scores[i] = -HUGE_VALF;
    }
    return;
  }
  int64_t low = 0;
  for (int64_t e = 0; e < query.num_exclude; ++e) {
    int64_t high = num_rows;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (rows[middle] < query.exclude[e]) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (low < num_rows && rows[low] == query.exclude[e]) scores[low] = -HUGE_VALF;
  }
}

// A score that at least k of them reach: the k-th largest of the maxima of 4 k parts, or of all if there are no more.
inline float reached_by(const float* scores, int64_t size, int64_t k, Candidate* candidates) {
  const int64_t most = divide_up(kMaximaPerResult * k, kGroupRows) * kGroupRows;
  const int64_t num_parts = size < most ? size : most;
  for (int64_t i = 0; i < num_parts; i += kLanes) {
    Vec largest = load(scores + i);
    for (int64_t j = i + num_parts; j < size; j += num_parts) largest = max(largest, load(scores + j));
    float lanes[kLanes];
    store(lanes, largest);
    for (int r = 0; r < kLanes; ++r) candidates[i + r] = {lanes[r], 0};
  }
  select_largest(candidates, num_parts, k);
  float least = candidates[0].upper;
  for (int64_t i = 1; i < k; ++i) least = candidates[i].upper < least ? candidates[i].upper : least;
  return least;
}

// Scores below cannot be those of the k best. Each of k rows scores at least `reached - error`, so what is more than
// twice the error below is below them.
inline float float32_threshold(float reached, double error) {
  const double threshold = static_cast<double>(reached) - 2 * error;
  if (!(threshold > -static_cast<double>(kLargestFloat))) return -kLargestFloat;
  return static_cast<float>(threshold - magnitude(threshold) * 0x1p-23 - 0x1p-149);
}

// Offers the exact scores of all rows whose score in float32 is not below the threshold.
inline void offer_rows(const CatalogView& catalog, const int64_t* rows, const float* scores, int64_t size,
                       float threshold, Candidate* candidates, TopkQuery& query) {
  int64_t count = 0;
  for (int64_t i = 0; i < size; i += kGroupRows) {
    GroupFloats group;
    for (int v = 0; v < kVecs; ++v) group.v[v] = load(scores + i + v * kLanes);
    const uint32_t mask = not_below(group, broadcast(threshold));
    if (mask != 0) count += append_candidates(candidates + count, group, static_cast<uint32_t>(i), mask);
  }
  for (int64_t i = 0; i < count; ++i) {
    if (i + kRowsAhead < count) prefetch_row(catalog, rows[candidates[i + kRowsAhead].row]);
    const int64_t row = rows[candidates[i].row];
    const double score = exact_score(query.vectors, query.weights, query.num_interests, query.temperature,
                                     catalog.vectors + row * catalog.dim,
                                     catalog.bias == nullptr ? 0.0f : catalog.bias[row], catalog.dim);
    offer(query, {static_cast<float>(score), row});
  }
}

void topk_rows(const CatalogView& catalog, const int64_t* rows, int64_t num_rows, TopkQuery* queries,
               int64_t num_queries, void* scratch) {
  if (num_queries == 0 || num_rows == 0) return;
  const int64_t stride = row_scores_stride(num_rows);
  auto* scores = static_cast<float*>(scratch);
  auto* candidates = reinterpret_cast<Candidate*>(scores + num_queries * stride);
  // Of several interests, and where half of the rows are wanted, all are scored exactly.
  const bool in_float32 = queries[0].weights == nullptr && 2 * queries[0].k <= num_rows;
  LargestRow largest{};
  if (in_float32) largest = score_in_float32(catalog, rows, num_rows, queries, num_queries, scores);
  for (int64_t q = 0; q < num_queries; ++q, scores += stride) {
    const double error = in_float32 ? error_of(queries[q], largest, catalog.dim) : HUGE_VAL;
    if (!(error < HUGE_VAL)) {
      for (int64_t i = 0; i < stride; ++i) scores[i] = i < num_rows ? 0.0f : -HUGE_VALF;
    }
    leave_out_excluded(queries[q], rows, num_rows, scores);
    float threshold = -kLargestFloat;
    if (error < HUGE_VAL) threshold = float32_threshold(reached_by(scores, stride, queries[q].k, candidates), error);
    offer_rows(catalog, rows, scores, stride, threshold, candidates, queries[q]);
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
