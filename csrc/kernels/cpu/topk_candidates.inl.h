// The rows of one query of score_topk.inl.h that are waiting to be scored exactly.
#pragma once

#include "kernels/cpu/exact_score.inl.h"
#include "kernels/cpu/topk_heap.inl.h"
#include "kernels/cpu/topk_query.inl.h"
#include "kernels/cpu/topk_select.inl.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

constexpr int kLeastFloatRows = 4;  // fewer rows are scored exactly at once

inline int64_t item_of(const CodesView& codes, int64_t slot) {
  if (codes.order == nullptr) return slot;
  int32_t item = 0;
  __builtin_memcpy(&item, codes.order + slot * 4, 4);
  return item;
}

// The rows of `mask` that may be returned, in the group that begins at first_slot.
inline uint32_t allowed_rows(const CodesView& codes, const uint64_t* allowed, int64_t first_slot, uint32_t mask) {
  // Without an order, their bits are in one word of the bitmap.
  if (codes.order == nullptr) return mask & static_cast<uint32_t>(allowed[first_slot / 64] >> (first_slot % 64));
  uint32_t kept = 0;
  for (; mask != 0; mask &= mask - 1) {
    const int r = __builtin_ctz(mask);
    const int64_t item = item_of(codes, first_slot + r);
    kept |= static_cast<uint32_t>(allowed[item / 64] >> (item % 64) & 1) << r;
  }
  return kept;
}

// The index of the first of the ascending values[low .. high - 1] that is >= `value`, or high.
inline int64_t lower_bound(const int64_t* values, int64_t low, int64_t high, int64_t value) {
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (values[middle] < value) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

inline bool is_excluded(const TopkQuery& query, int64_t item) {
  const int64_t place = lower_bound(query.exclude, 0, query.num_exclude, item);
  return place < query.num_exclude && query.exclude[place] == item;
}

// Scores a row exactly and keeps it if it is among the k best so far.
inline void score_row(const CatalogView& catalog, QueryScan& scan, int64_t item) {
  TopkQuery& query = *scan.query;
  if (is_excluded(query, item)) return;
  const double score = exact_score(query.vectors, query.weights, query.num_interests, query.temperature,
                                   catalog.vectors + item * catalog.dim,
                                   catalog.bias == nullptr ? 0.0f : catalog.bias[item], catalog.dim);
  if (offer(query, {static_cast<float>(score), item})) update_threshold(scan);
}

// Rows scored in float32 first, to see whether they may be among the k best.
struct FloatRows {
  int64_t items[kLanes];
  int size = 0;
};

__attribute__((noinline)) void score_float_rows(const CatalogView& catalog, QueryScan& scan, FloatRows& rows) {
  float scores[kLanes];
  if (rows.size >= kLeastFloatRows) {
    RowVectors vectors;
    for (int r = 0; r < kLanes; ++r) vectors.set(catalog, r, rows.items[r < rows.size ? r : 0]);
    store(scores, dot_rows(scan.query->vectors, vectors.vectors, catalog.dim) + load(vectors.bias));
  } else {
    for (int r = 0; r < rows.size; ++r) scores[r] = HUGE_VALF;
  }
  for (int r = 0; r < rows.size; ++r) {
    if (!(static_cast<double>(scores[r]) < scan.float_threshold)) score_row(catalog, scan, rows.items[r]);
  }
  rows.size = 0;
}

inline void score_rows(const CatalogView& catalog, QueryScan& scan, const Candidate* candidates, int64_t size) {
  FloatRows rows;
  for (int64_t i = 0; i < size; ++i) {
    const int64_t ahead = i + kRowsAhead;
    if (ahead < size && !(candidates[ahead].upper < scan.threshold)) {
      prefetch_row(catalog, item_of(catalog.codes, scan.first_item + candidates[ahead].row));
    }
    const Candidate candidate = candidates[i];
    if (candidate.upper < scan.threshold) continue;
    const int64_t item = item_of(catalog.codes, scan.first_item + candidate.row);
    ++scan.num_scored;
    // A row with an infinite bound may be larger than those the error was computed for.
    if (!(scan.float_threshold > -HUGE_VAL) || candidate.upper == HUGE_VALF) {
      score_row(catalog, scan, item);
    } else {
      rows.items[rows.size++] = item;
      if (rows.size == kLanes) score_float_rows(catalog, scan, rows);
    }
  }
  score_float_rows(catalog, scan, rows);
}

// Scores the k waiting rows with the largest bounds, which raises the threshold above most of the others, and returns
// where the others begin.
inline int64_t score_largest(const CatalogView& catalog, QueryScan& scan) {
  const int64_t size = scan.num_candidates;
  const int64_t first = scan.query->k < size ? scan.query->k : size;
  select_largest(scan.candidates, size, first);
  score_rows(catalog, scan, scan.candidates, first);
  return first;
}

inline void score_candidates(const CatalogView& catalog, QueryScan& scan) {
  const int64_t first = score_largest(catalog, scan);
  score_rows(catalog, scan, scan.candidates + first, scan.num_candidates - first);
  scan.num_candidates = 0;
}

// Makes room for more candidates. The first call comes early, to get a threshold.
__attribute__((noinline)) void thin_candidates(const CatalogView& catalog, QueryScan& scan) {
  Candidate* candidates = scan.candidates;
  int64_t kept = 0;
  for (int64_t i = score_largest(catalog, scan); i < scan.num_candidates; ++i) {
    if (!(candidates[i].upper < scan.threshold)) candidates[kept++] = candidates[i];
  }
  scan.num_candidates = kept;
  if (2 * kept > scan.max_candidates) score_candidates(catalog, scan);
  scan.limit = 2 * scan.limit < scan.max_candidates ? 2 * scan.limit : scan.max_candidates;
}

// Keeps rows first_item + i for each bit i of mask.
inline void keep_candidates(const CatalogView& catalog, QueryScan& scan, GroupFloats upper, int64_t first_item,
                            uint32_t mask) {
  const uint64_t* allowed = scan.query->allowed;
  if (allowed != nullptr) mask = allowed_rows(catalog.codes, allowed, first_item, mask);
  const auto first_row = static_cast<uint32_t>(first_item - scan.first_item);
  scan.num_candidates += append_candidates(scan.candidates + scan.num_candidates, upper, first_row, mask);
  if (scan.query->known_score != nullptr) update_threshold(scan);
  if (scan.num_candidates >= scan.limit) thin_candidates(catalog, scan);
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
