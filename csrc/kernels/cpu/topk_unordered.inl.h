// Scans rows that have no order. If bounds exclude few rows, as for wide vectors without preferred directions, most
// rows would be scored for each query separately; they are then scored for many queries together, without bounds.
#pragma once

#include "kernels/cpu/topk_scan.inl.h"
#include "kernels/cpu/topk_together.inl.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// If more rows than this, per row and kRowQueries queries, are scored for single queries, scoring all together is
// faster: a row is then read from memory for several queries at once (bench/measured.md, "Wide vectors").
constexpr int64_t kMostAlone = 1;
constexpr int64_t kSettledRows = 512;  // until this many rows are scanned, thresholds are too low to judge the bounds

struct Unordered {
  const CatalogView& catalog;
  const Units& units;
  Block& block;
  uint8_t* memory;  // [together_scratch_size()]
};

// Whether float32 scores of all queries have an error bound.
inline bool have_errors(const QueryScan* scans, int64_t num_queries) {
  bool all = true;
  for (int64_t q = 0; q < num_queries; ++q) all = all && scans[q].float_error < HUGE_VAL;
  return all;
}

// The number of rows scored for a single query, or waiting to be.
inline int64_t num_alone(const QueryScan* scans, int64_t num_queries) {
  int64_t sum = 0;
  for (int64_t q = 0; q < num_queries; ++q) sum += scans[q].num_scored + scans[q].num_candidates;
  return sum;
}

// Scores exactly those of the rows [first, first + count) whose float32 scores may be among the k best.
inline void keep_scored(const CatalogView& catalog, int64_t first, int64_t count, const float* scores,
                        QueryScan& scan) {
  const float least = float_below(scan.float_threshold);
  for (int64_t i = 0; i < count; i += kGroupRows) {
    GroupFloats group;
    for (int v = 0; v < kVecs; ++v) group.v[v] = load(scores + i + v * kLanes);
    uint32_t mask = not_below(group, broadcast(least));
    if (mask == 0) continue;
    if (count - i < kGroupRows) mask &= (1u << (count - i)) - 1;
    if (scan.query->allowed != nullptr) mask = allowed_rows(catalog.codes, scan.query->allowed, first + i, mask);
    for (; mask != 0; mask &= mask - 1) {
      const int64_t r = i + __builtin_ctz(mask);
      if (!(static_cast<double>(scores[r]) < scan.float_threshold)) score_row(catalog, scan, first + r);
    }
  }
}

// Scans rows [first, last) without bounds.
inline void scan_together(const Unordered& in, int64_t first, int64_t last, QueryScan* scans, int64_t num_queries) {
  auto* rows = reinterpret_cast<int64_t*>(in.memory);
  auto* scores = reinterpret_cast<float*>(rows + kTogetherRows);
  float* together = scores + kRowQueries * kTogetherRows;
  for (; first < last; first += kTogetherRows) {
    const int64_t count = smaller(kTogetherRows, last - first);
    for (int64_t i = 0; i < count; ++i) rows[i] = first + i;
    for (int64_t q = 0; q < num_queries; q += kRowQueries) {
      const int64_t size = smaller(kRowQueries, num_queries - q);
      score_in_float32(in.catalog, rows, count, scans[q].query, size, scores, together);
      for (int64_t i = 0; i < size; ++i) {
        keep_scored(in.catalog, first, count, scores + i * row_scores_stride(count), scans[q + i]);
      }
    }
  }
}

inline void scan_unordered(const Unordered& in, int64_t first_item, int64_t last_item, QueryScan* scans,
                           int64_t num_queries) {
  // Error bounds assume that no row is longer than row_size, which groups without bounds are not part of.
  const bool may_be_together = num_queries >= kLeastQueries && scans[0].query->weights == nullptr &&
                               scans[0].query->error_share == 1 && have_errors(scans, num_queries) &&
                               in.catalog.codes.longest_row <= in.catalog.codes.row_size;
  const int64_t most_alone = kMostAlone * divide_up(num_queries, kRowQueries);
  int64_t look_at = first_item + kSettledRows;
  for (int64_t first = first_item; first < last_item;) {
    const int64_t end = may_be_together ? smaller(first + kTogetherRows, last_item) : last_item;
    const int64_t most = num_alone(scans, num_queries) + most_alone * (end - first);
    start_block(in.catalog, first, end, in.block);
    scan_rows(in.block, in.units, scans, num_queries, end < last_item);
    first = end;
    if (end == last_item || end < look_at || num_alone(scans, num_queries) <= most) continue;
    // Thresholds rise, so bounds come to exclude more: check again after as many rows as have been scanned so far.
    look_at = smaller(end + (end - first_item), last_item);
    // Many may be waiting only because thresholds were low when they were added.
    for (int64_t q = 0; q < num_queries; ++q) thin_candidates(in.catalog, scans[q]);
    if (num_alone(scans, num_queries) <= most) continue;
    scan_together(in, end, look_at, scans, num_queries);
    first = look_at;
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
