// Implements TopkRowsFn of kernels/score_topk.h: float32 scores of all rows, then exact ones where needed.
// docs/score_topk.md, "Scores in float32", derives the error.
#pragma once

#include <math.h>

#include "kernels/cpu/topk_candidates.inl.h"
#include "kernels/cpu/topk_together.inl.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

constexpr float kLargestFloat = 0x1.fffffep127f;
constexpr int64_t kMaximaPerResult = 4;
constexpr int64_t kManyPerResult = 4;  // rows per result worth an exact score; usually hardly more than one remains
constexpr int64_t kAnyRow = -1;        // instead of a count: all rows may be

// float32_error() for all scores of this query with rows of length at most `longest`.
inline double error_of(const TopkQuery& query, double longest, const CatalogView& catalog) {
  double square = 0;
  for (int64_t i = 0; i < catalog.dim; ++i) {
    square += static_cast<double>(query.vectors[i]) * static_cast<double>(query.vectors[i]);
  }
  return float32_error(::sqrt(square), longest, static_cast<double>(catalog.codes.bias_size), catalog.dim);
}

// An upper bound of |x| over the listed rows. Each sum of squares has `dim` roundings, and subnormal products may be
// flushed to 0.
__attribute__((noinline)) double longest_of(const CatalogView& catalog, const int64_t* rows, int64_t num_rows) {
  const int64_t dim = catalog.dim;
  Vec largest = broadcast(0.0f);
  for (int64_t row = 0; row < num_rows; ++row) {
    const float* x = catalog.vectors + rows[row] * dim;
    Vec square = broadcast(0.0f);
    for (int64_t i = 0; i < dim; i += kLanes) {
      const Vec part = i + kLanes <= dim ? load(x + i) : load_first(x + i, dim - i);
      square = fma(part, part, square);
    }
    largest = max(largest, square);
  }
  float lanes[kLanes];
  store(lanes, largest);
  double square = 0;
  for (const float lane : lanes) square += static_cast<double>(lane);
  const auto terms = static_cast<double>(dim);
  return ::sqrt(square * (1 + terms * 0x1p-23) + terms * 0x1p-126);
}

// Sets the scores of excluded rows to -infinity. Both lists ascend: the elements of the shorter are looked up in the
// longer.
inline void leave_out_excluded(const TopkQuery& query, const int64_t* rows, int64_t num_rows, float* scores) {
  if (num_rows < query.num_exclude) {
    for (int64_t i = 0; i < num_rows; ++i) {
      if (is_excluded(query, rows[i])) scores[i] = -HUGE_VALF;
    }
    return;
  }
  int64_t place = 0;
  for (int64_t e = 0; e < query.num_exclude; ++e) {
    place = lower_bound(rows, place, num_rows, query.exclude[e]);
    if (place < num_rows && rows[place] == query.exclude[e]) scores[place] = -HUGE_VALF;
  }
}

// A score that at least k rows reach: the k-th largest of the maxima of 4 k parts, or of all scores if there are fewer.
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

// Rows with a lower float32 score cannot be among the k best, as k rows score `reached` or more.
inline float float32_threshold(float reached, double error) {
  const double threshold = below_score(below_score(static_cast<double>(reached), error), error);
  if (!(threshold > -static_cast<double>(kLargestFloat))) return -kLargestFloat;
  return float_below(threshold);
}

// Writes the rows whose score is not below the threshold to `candidates`, and returns their number.
inline int64_t collect(const float* scores, int64_t size, float threshold, Candidate* candidates) {
  int64_t count = 0;
  for (int64_t i = 0; i < size; i += kGroupRows) {
    GroupFloats group;
    for (int v = 0; v < kVecs; ++v) group.v[v] = load(scores + i + v * kLanes);
    const uint32_t mask = not_below(group, broadcast(threshold));
    if (mask != 0) count += append_candidates(candidates + count, group, static_cast<uint32_t>(i), mask);
  }
  return count;
}

// Collects the rows that may be among the k best, if none is longer than `longest`; kAnyRow if float32 cannot decide.
inline int64_t collect_promising(const CatalogView& catalog, const TopkQuery& query, double longest,
                                 const float* scores, int64_t size, Candidate* candidates) {
  const double error = error_of(query, longest, catalog);
  if (!(error < HUGE_VAL)) return kAnyRow;
  const float reached = reached_by(scores, size, query.k, candidates);
  return collect(scores, size, float32_threshold(reached, error), candidates);
}

inline void offer_rows(const CatalogView& catalog, const int64_t* rows, int64_t num_rows, const Candidate* candidates,
                       int64_t count, TopkQuery& query) {
  const int64_t most = count <= topk_rows_room(num_rows, query.k) ? count : query.k;
  for (int64_t i = 0; i < count; ++i) {
    if (i + kRowsAhead < count) prefetch_row(catalog, rows[candidates[i + kRowsAhead].row]);
    const int64_t row = rows[candidates[i].row];
    const double score = exact_score(query.vectors, query.weights, query.num_interests, query.temperature,
                                     catalog.vectors + row * catalog.dim,
                                     catalog.bias == nullptr ? 0.0f : catalog.bias[row], catalog.dim);
    const ScoredItem item = {static_cast<float>(score), row};
    if (i < most) {
      query.best[query.num_best++] = item;
      continue;
    }
    if (i == most) make_heap(query.best, query.k);
    offer(query, item);
  }
}

void topk_rows(const CatalogView& catalog, const int64_t* rows, int64_t num_rows, TopkQuery* queries,
               int64_t num_queries, void* scratch) {
  if (num_queries == 0 || num_rows == 0) return;
  const int64_t stride = row_scores_stride(num_rows);
  auto* scores = static_cast<float*>(scratch);
  float* together = scores + num_queries * stride;
  auto* candidates = reinterpret_cast<Candidate*>(together + catalog.dim * kRowQueries);
  // With several interests, or if more than half of the rows are wanted, all are scored exactly.
  const int64_t k = queries[0].k;
  const bool in_float32 = queries[0].weights == nullptr && 2 * k <= num_rows;
  if (in_float32) score_in_float32(catalog, rows, num_rows, queries, num_queries, scores, together);
  // The longest row of the catalogue may not be listed, or may be gone: if its length is too loose, the listed rows are
  // measured.
  auto longest = static_cast<double>(catalog.codes.longest_row);
  bool is_of_listed = false;
  for (int64_t q = 0; q < num_queries; ++q, scores += stride) {
    TopkQuery& query = queries[q];
    int64_t count = kAnyRow;
    if (in_float32) {
      leave_out_excluded(query, rows, num_rows, scores);
      count = collect_promising(catalog, query, longest, scores, stride, candidates);
      if (!is_of_listed && (count == kAnyRow || count > kManyPerResult * k)) {
        longest = longest_of(catalog, rows, num_rows);
        is_of_listed = true;
        count = collect_promising(catalog, query, longest, scores, stride, candidates);
      }
    }
    if (count == kAnyRow) {
      for (int64_t i = 0; i < stride; ++i) scores[i] = i < num_rows ? 0.0f : -HUGE_VALF;
      leave_out_excluded(query, rows, num_rows, scores);
      count = collect(scores, stride, -kLargestFloat, candidates);
    }
    offer_rows(catalog, rows, num_rows, candidates, count, query);
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
