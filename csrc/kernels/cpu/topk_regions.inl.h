// Scans of all rows where there is an order, for queries together, but for the regions that a query does not need.
#pragma once

#include "kernels/cpu/topk_cells.inl.h"
#include "kernels/cpu/topk_scan.inl.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// Sets which of the 16 regions from first_item on are not below the queries' thresholds.
inline void bound_range(const Ordered& in, int64_t first_item, QueryScan* scans, int64_t num_queries) {
  const uint8_t* group = in.catalog.codes.regions + first_item / kRangeRows * in.block.stride;
  const uint32_t all = mask_of(num_regions(in.last_item - first_item));
  for (int64_t q = 0; q < num_queries; ++q) {
    const GroupBounds bounds = bound_group(in, group, scans[q], false);
    scans[q].needed = all & not_below(bounds.upper, broadcast(scans[q].threshold));
  }
}

inline void swap_scans(QueryScan& a, QueryScan& b) {
  const QueryScan scan = a;
  a = b;
  b = scan;
  if (a.query->weights != nullptr) {
    for (int64_t j = 0; j < a.query->num_interests; ++j) a.vectors[j].query = &a;
    for (int64_t j = 0; j < b.query->num_interests; ++j) b.vectors[j].query = &b;
    return;
  }
  // Those are scanned together and have to lie in the queries' order.
  const VectorScan vector = *a.vectors;
  *a.vectors = *b.vectors;
  *b.vectors = vector;
  VectorScan* vectors = a.vectors;
  a.vectors = b.vectors;
  b.vectors = vectors;
  a.vectors->query = &a;
  b.vectors->query = &b;
}

// Brings the queries that need the region of this bit to the front and returns how many these are.
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
    for (int64_t r = 0; r < kGroupRows && first + r * kRegionRows < in.last_item; ++r) {
      const int64_t count = bring_to_front(scans, num_queries, 1u << r);
      if (count == 0) continue;
      const int64_t begin = first + r * kRegionRows;
      const int64_t end = smaller_of(begin + kRegionRows, in.last_item);
      start_block(in.catalog, begin, end, in.block);
      scan_rows(in.block, in.units, scans, count, end < in.last_item);
    }
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
