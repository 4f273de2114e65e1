// Scans of a catalogue whose rows have an order (kernels/score_topk.h): the rows of a few regions first, for the sake
// of a threshold, then the bounds of all regions, of the cells of those that are left, and of the rows of those cells.
#pragma once

#include "kernels/cpu/topk_scan.inl.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

constexpr int64_t kFirstRegions = 8;  // that are scanned for the sake of a threshold, and one for so many rows wanted
constexpr int64_t kRowsPerFirstRegion = 32;
constexpr int64_t kGroupsAhead = 3;  // that are fetched while one is scanned
// A query that needs more than one in so many regions is scanned with others like it: rows cost less then.
constexpr int64_t kRegionsPerNeeded = 2;

struct Ordered {
  const CatalogView& catalog;
  const Units& units;
  int64_t first_item;
  int64_t last_item;
  Block& block;
  Candidate* candidates;  // [num_ordered_candidates()]
};

inline void prefetch_group(const uint8_t* groups, int64_t group, int64_t stride) {
  for (int64_t i = 0; i < stride; i += kLineBytes) __builtin_prefetch(groups + group * stride + i);
}

// Appends those of the group's regions or cells whose bounds are not below the threshold, and returns how many.
// first: what the group's first one is called; count: how many there are from it on; vector: the query's, if it is one.
inline int64_t bound_group(const Ordered& in, const uint8_t* group, int64_t first, int64_t count,
                           const VectorScan& vector, const QueryScan& scan, Candidate* bounds) {
  GroupFloats upper;
  in.block.groups = group;
  if (scan.query->weights == nullptr) {
    upper = stream_bound(in.block, in.units, vector);
  } else {
    in.block.sides[0] = read_side(group, in.units);
    Maxima maxima[1];
    find_maxima(in.block, 0, scan, maxima);
    upper = weighted_bound(scan, in.block.sides[0], maxima[0]);
  }
  uint32_t mask = not_below(upper, broadcast(scan.threshold));
  if (count < kGroupRows) mask &= (1u << count) - 1;
  return append_candidates(bounds, upper, static_cast<uint32_t>(first), mask);
}

// Regions and cells are counted from the first of the scan.
inline int64_t bound_regions(const Ordered& in, int64_t first, int64_t last, const VectorScan& vector,
                             const QueryScan& scan, Candidate* regions) {
  const uint8_t* groups = in.catalog.codes.regions + in.first_item / kRangeRows * in.block.stride;
  int64_t size = 0;
  for (int64_t i = first; i < last; i += kGroupRows) {
    size += bound_group(in, groups + i / kGroupRows * in.block.stride, i, last - i, vector, scan, regions + size);
  }
  return size;
}

inline int64_t bound_cells(const Ordered& in, const Candidate* regions, int64_t count, const QueryScan& scan,
                           Candidate* cells) {
  const uint8_t* groups = in.catalog.codes.cells + in.first_item / kRegionRows * in.block.stride;
  const int64_t all = num_cells(in.last_item - in.first_item);
  int64_t size = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i + kGroupsAhead < count) prefetch_group(groups, regions[i + kGroupsAhead].row, in.block.stride);
    if (regions[i].upper < scan.threshold) continue;
    const int64_t first = int64_t{regions[i].row} * kGroupRows;
    size += bound_group(in, groups + regions[i].row * in.block.stride, first, all - first, scan.vectors[0], scan,
                        cells + size);
  }
  return size;
}

inline void scan_slots(const Ordered& in, int64_t first, int64_t size, QueryScan& scan) {
  const int64_t end = first + size < in.last_item ? first + size : in.last_item;
  start_block(in.catalog, first, end, in.block);
  if (scan.query->weights == nullptr) {
    scan_stream(in.block, in.units, scan);
  } else {
    scan_blocks(in.block, in.units, &scan, 1);
  }
}

// Scans the rows of those of the cells whose bounds are not below the threshold by then.
inline void scan_listed(const Ordered& in, const Candidate* cells, int64_t count, QueryScan& scan) {
  for (int64_t i = 0; i < count; ++i) {
    if (i + kGroupsAhead < count) {
      const int64_t ahead = in.first_item / kGroupRows + cells[i + kGroupsAhead].row;
      prefetch_group(in.catalog.codes.groups, ahead, in.block.stride);
    }
    if (cells[i].upper < scan.threshold) continue;
    scan_slots(in, in.first_item + cells[i].row * kCellRows, kCellRows, scan);
  }
}

inline int64_t smaller_of(int64_t a, int64_t b) { return a < b ? a : b; }

// Scans the rows of the regions whose centres score most and keeps nothing but the K-th best score: regions with the
// largest bounds would often be those that are merely large.
inline void find_threshold(const Ordered& in, int64_t num_regions, Candidate* regions, QueryScan& scan) {
  VectorScan centre = scan.vectors[0];
  centre.norm = 0;  // several interests go by their bounds
  const int64_t count = bound_regions(in, 0, smaller_of(num_regions, kRegionsAtOnce), centre, scan, regions);
  const int64_t first = smaller_of(kFirstRegions + scan.query->k / kRowsPerFirstRegion, count);
  select_largest(regions, count, first);
  for (int64_t i = 0; i < first; ++i) {
    scan_slots(in, in.first_item + int64_t{regions[i].row} * kRegionRows, kRegionRows, scan);
  }
  score_candidates(in.catalog, scan);
  if (scan.query->num_best == scan.query->k) scan.least = scan.query->best[0].score;
  scan.query->num_best = 0;
}

// False, and nothing found but a threshold, if more than most_needed regions have to be looked at.
inline bool scan_query(const Ordered& in, int64_t most_needed, QueryScan& scan) {
  const int64_t all = num_regions(in.last_item - in.first_item);
  Candidate* cells = in.candidates;
  Candidate* waiting = cells + kRegionsExpanded * kGroupRows + kTouchedCandidates;
  Candidate* regions = waiting + max_candidates(1, scan.query->k) + kTouchedCandidates;
  use_list(waiting, max_candidates(1, scan.query->k), scan);
  find_threshold(in, all, regions, scan);
  for (int64_t begin = 0; begin < all; begin += kRegionsAtOnce) {
    const int64_t end = smaller_of(begin + kRegionsAtOnce, all);
    const int64_t count = bound_regions(in, begin, end, scan.vectors[0], scan, regions);
    if (begin == 0 && count > most_needed) return false;
    for (int64_t i = 0; i < count; i += kRegionsExpanded) {
      const int64_t size = bound_cells(in, regions + i, smaller_of(kRegionsExpanded, count - i), scan, cells);
      scan_listed(in, cells, size, scan);
    }
  }
  score_candidates(in.catalog, scan);
  return true;
}

// Scans for all queries but those that need most regions, which it brings to the front: returns how many these are.
inline int64_t scan_cells(const Ordered& in, QueryScan* scans, int64_t num_queries) {
  const int64_t all = num_regions(in.last_item - in.first_item);
  const int64_t most_needed = num_queries == 1 ? all : all / kRegionsPerNeeded;
  start_block(in.catalog, in.first_item, in.last_item, in.block);
  int64_t left = 0;
  for (int64_t q = 0; q < num_queries; ++q) {
    Candidate* own_list = scans[q].candidates;
    const int64_t size = scans[q].max_candidates;
    if (scan_query(in, most_needed, scans[q])) continue;
    use_list(own_list, size, scans[q]);
    VectorScan* vectors = scans[left].vectors;
    scans[left] = scans[q];
    if (scans[q].query->weights == nullptr) {  // their vectors are scanned together, too
      *vectors = *scans[q].vectors;
      vectors->query = scans + left;
      scans[left].vectors = vectors;
    }
    ++left;
  }
  return left;
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
