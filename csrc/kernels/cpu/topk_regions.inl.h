// Scans region by region if there is an order, each region with the queries that need it. Used for queries that need
// most regions, and for rows sorted by length, where the first regions give a threshold that excludes the last.
#pragma once

#include "kernels/cpu/topk_cells.inl.h"
#include "kernels/cpu/topk_scan.inl.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// Finds which of the 16 regions from first_item on are not below each query's threshold.
inline void bound_range(const Ordered& in, int64_t first_item, QueryScan* scans, int64_t num_queries) {
  const uint8_t* group = in.catalog.codes.regions + first_item / kRangeRows * in.block.stride;
  const uint32_t all = mask_of(num_regions(in.last_item - first_item));
  for (int64_t q = 0; q < num_queries; ++q) {
    // If sorted by length, many rows wait at first; the sooner they are scored, the fewer regions are needed.
    if (scans[q].query->known_score != nullptr) update_threshold(scans[q]);
    if (scans[q].num_candidates >= scans[q].query->k) thin_candidates(in.catalog, scans[q]);
    const GroupBounds bounds = bound_group(in, group, scans[q], false);
    scans[q].needed = all & not_below(bounds.upper, broadcast(scans[q].threshold));
  }
}

// Moves the queries that need this region (a bit) to the front and returns their number.
inline int64_t bring_to_front(QueryScan* scans, int64_t num_queries, uint32_t region) {
  int64_t front = 0;
  for (int64_t end = num_queries; front < end;) {
    if ((scans[front].needed & region) != 0) {
      ++front;
    } else if (--end > front) {
      swap_scans(scans[front], scans[end]);
    }
  }
  return front;
}

inline void scan_regions(const Ordered& in, QueryScan* scans, int64_t num_queries) {
  if (num_queries == 0) return;
  for (int64_t first = in.first_item; first < in.last_item; first += kRangeRows) {
    start_block(in.catalog, first, in.last_item, in.block);
    bound_range(in, first, scans, num_queries);
    if (first + kRangeRows < in.last_item) {
      prefetch_group(in.catalog.codes.regions, first / kRangeRows + 1, in.block.stride);
    }
    for (int64_t r = 0; r < kGroupRows && first + r * kRegionRows < in.last_item; ++r) {
      const int64_t count = bring_to_front(scans, num_queries, 1u << r);
      if (count == 0) continue;
      const int64_t begin = first + r * kRegionRows;
      const int64_t end = smaller(begin + kRegionRows, in.last_item);
      start_block(in.catalog, begin, end, in.block);
      scan_rows(in.block, in.units, scans, count, end < in.last_item);
    }
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
