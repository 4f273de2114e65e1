// Scans of a catalogue in which close rows are adjacent (kernels/score_topk.h). It computes the bounds of all regions,
// scans a few promising cells to get a threshold, then bounds the cells of the remaining regions, and their rows.
#pragma once

#include "kernels/cpu/topk_scan.inl.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// Regions whose cells compete to be scanned first, and cells scanned first; each plus one per this many rows wanted.
constexpr int64_t kFirstRegions = 8;
constexpr int64_t kRowsPerFirstRegion = 32;
constexpr int64_t kFirstCells = 12;
constexpr int64_t kRowsPerFirstCell = 8;
constexpr int64_t kGroupsAhead = 8;  // groups prefetched ahead of the one being scanned
// Queries that need more than one region in this many are scanned together, which costs less per row.
constexpr int64_t kRegionsPerNeeded = 2;

struct Ordered {
  const CatalogView& catalog;
  const Units& units;
  int64_t first_item;
  int64_t last_item;
  Block& block;
  Candidate* candidates;  // [num_ordered_candidates()]: none if by length
};

// Bounds of 16 regions or cells.
struct GroupBounds {
  GroupFloats upper;
  GroupFloats centre;  // the scores of their centres, if requested
};

inline void prefetch_group(const uint8_t* groups, int64_t group, int64_t stride) {
  for (int64_t i = 0; i < stride; i += kLineBytes) __builtin_prefetch(groups + group * stride + i);
}

LSIF_INLINE GroupFloats all_of(float x) {
  GroupFloats same;
  for (int i = 0; i < kVecs; ++i) same.v[i] = broadcast(x);
  return same;
}

inline GroupBounds bound_group(const Ordered& in, const uint8_t* group, const QueryScan& scan, bool with_centre) {
  in.block.groups = group;
  const Side side = read_side(group, in.units);
  GroupBounds bounds;
  if (scan.query->weights == nullptr) {
    const VectorScan& vector = scan.vectors[0];
    Dots dots[1][1];
    dot_tile(in.block.lines(0), in.block.stride, in.block.num_lines, in.block.ahead, &vector, dots);
    bounds.upper = upper_bound(vector, side, missed_rows(side, vector.missed), dots[0][0]);
    VectorScan centre = vector;
    centre.norm = 0;
    bounds.centre = upper_bound(centre, side, missed_rows(side, vector.missed), dots[0][0]);
    return bounds;
  }
  const auto* products = multiply_interests<1>(in.block, 0, scan);
  uint32_t mask = 0;
  bounds.upper = bound_interests<1>(scan, side, products, 0, mask);
  if (mask == 0) bounds.upper = all_of(-HUGE_VALF);
  if (with_centre) bounds.centre = score_bound<1>(scan, side, all_of(0.0f), products, 0);
  return bounds;
}

// A mask of the first `count` rows of a group, at most all.
inline uint32_t mask_of(int64_t count) { return count < kGroupRows ? (1u << count) - 1 : (1u << kGroupRows) - 1; }

// The regions whose centres score highest, and which of their cells have been scanned. The regions with the largest
// bounds would often just be those with the largest extent.
struct FirstRegions {
  int64_t limit = 0;
  int64_t size = 0;
  Candidate regions[kRegionsExpanded];  // a heap once it is full
  uint32_t scanned[kRegionsExpanded] = {};

  void offer(GroupFloats scores, int64_t first, uint32_t mask) {
    const float least = size < limit ? -HUGE_VALF : regions[0].upper;
    mask &= not_below(scores, broadcast(least));
    if (mask == 0) return;
    Candidate offered[kTouchedCandidates];
    const int64_t count = append_candidates(offered, scores, static_cast<uint32_t>(first), mask);
    for (int64_t i = 0; i < count; ++i) offer(offered[i]);
  }

  void offer(Candidate region) {
    if (size < limit) {
      regions[size++] = region;
      if (size < limit) return;
      for (int64_t hole = limit / 2; hole-- > 0;) sift_down(regions, limit, hole, regions[hole]);
    } else if (is_worse(regions[0], region)) {
      sift_down(regions, limit, 0, region);
    }
  }

  uint32_t* scanned_of(int64_t region) {
    for (int64_t i = 0; i < size; ++i) {
      if (regions[i].row == region) return scanned + i;
    }
    return nullptr;
  }
};

// Writes the bounds of regions [first, last), numbered from the first region of the scan.
inline void bound_regions(const Ordered& in, int64_t first, int64_t last, const QueryScan& scan,
                          FirstRegions& first_regions, float* uppers) {
  const uint8_t* groups = in.catalog.codes.regions + in.first_item / kRangeRows * in.block.stride;
  for (int64_t i = first; i < last; i += kGroupRows) {
    const GroupBounds bounds = bound_group(in, groups + i / kGroupRows * in.block.stride, scan, first == 0);
    for (int v = 0; v < kVecs; ++v) store(uppers + (i - first) + v * kLanes, bounds.upper.v[v]);
    if (first == 0) first_regions.offer(bounds.centre, i, mask_of(last - i));
  }
}

// Lists the regions whose bounds are not below the threshold, usually a small part.
inline int64_t list_regions(const float* uppers, int64_t first, int64_t last, float threshold, Candidate* regions) {
  int64_t size = 0;
  for (int64_t i = first; i < last; i += kGroupRows) {
    GroupFloats upper;
    for (int v = 0; v < kVecs; ++v) upper.v[v] = load(uppers + (i - first) + v * kLanes);
    const uint32_t mask = mask_of(last - i) & not_below(upper, broadcast(threshold));
    if (mask != 0) size += append_candidates(regions + size, upper, static_cast<uint32_t>(i), mask);
  }
  return size;
}

inline const uint8_t* cells_of(const Ordered& in, int64_t region) {
  return in.catalog.codes.cells + (in.first_item / kRegionRows + region) * in.block.stride;
}

inline uint32_t mask_of_cells(const Ordered& in, int64_t region) {
  return mask_of(num_cells(in.last_item - in.first_item) - region * kGroupRows);
}

inline void scan_cell(const Ordered& in, int64_t cell, QueryScan& scan) {
  const int64_t first = in.first_item + cell * kCellRows;
  start_block(in.catalog, first, smaller(first + kCellRows, in.last_item), in.block);
  scan_rows(in.block, in.units, &scan, 1, false);
}

// Scans the rows of the most promising cells to get a threshold.
inline void scan_first(const Ordered& in, FirstRegions& first_regions, Candidate* cells, QueryScan& scan) {
  int64_t size = 0;
  for (int64_t i = 0; i < first_regions.size; ++i)
    prefetch_group(cells_of(in, first_regions.regions[i].row), 0, in.block.stride);
  for (int64_t i = 0; i < first_regions.size; ++i) {
    const int64_t region = first_regions.regions[i].row;
    const GroupBounds bounds = bound_group(in, cells_of(in, region), scan, true);
    const auto first = static_cast<uint32_t>(region * kGroupRows);
    size += append_candidates(cells + size, bounds.centre, first, mask_of_cells(in, region));
  }
  const int64_t count = smaller(kFirstCells + scan.query->k / kRowsPerFirstCell, size);
  select_largest(cells, size, count);
  scan.limit = scan.max_candidates;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t ahead = in.first_item / kGroupRows + cells[smaller(i + kGroupsAhead, count - 1)].row;
    prefetch_group(in.catalog.codes.groups, ahead, in.block.stride);
    *first_regions.scanned_of(cells[i].row / kGroupRows) |= 1u << cells[i].row % kGroupRows;
    scan_cell(in, cells[i].row, scan);
  }
  score_candidates(in.catalog, scan);
  use_list(scan.candidates, scan.max_candidates, scan);
}

// Lists the cells of these regions that are not below the threshold and not scanned yet.
inline int64_t bound_cells(const Ordered& in, const Candidate* regions, int64_t count, FirstRegions& first_regions,
                           const QueryScan& scan, Candidate* cells) {
  int64_t size = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i + kGroupsAhead < count) prefetch_group(cells_of(in, regions[i + kGroupsAhead].row), 0, in.block.stride);
    if (regions[i].upper < scan.threshold) continue;
    const int64_t region = regions[i].row;
    const GroupBounds bounds = bound_group(in, cells_of(in, region), scan, false);
    uint32_t mask = mask_of_cells(in, region) & not_below(bounds.upper, broadcast(scan.threshold));
    const uint32_t* scanned = first_regions.scanned_of(region);
    if (scanned != nullptr) mask &= ~*scanned;
    size += append_candidates(cells + size, bounds.upper, static_cast<uint32_t>(region * kGroupRows), mask);
  }
  return size;
}

// Scans the rows of the listed cells, except those that have fallen below the threshold meanwhile.
inline void scan_listed(const Ordered& in, const Candidate* cells, int64_t count, QueryScan& scan) {
  for (int64_t i = 0; i < count; ++i) {
    if (i + kGroupsAhead < count) {
      const int64_t ahead = in.first_item / kGroupRows + cells[i + kGroupsAhead].row;
      prefetch_group(in.catalog.codes.groups, ahead, in.block.stride);
    }
    if (cells[i].upper < scan.threshold) continue;
    scan_cell(in, cells[i].row, scan);
  }
}

// Returns false if more than most_needed regions are needed; it has then found only a threshold, and no results.
inline bool scan_query(const Ordered& in, int64_t most_needed, QueryScan& scan) {
  const int64_t all = num_regions(in.last_item - in.first_item);
  const int64_t wanted = smaller(kFirstRegions + scan.query->k / kRowsPerFirstRegion, kRegionsExpanded);
  FirstRegions first_regions;
  first_regions.limit = smaller(wanted, smaller(all, kRegionsAtOnce));
  Candidate* cells = in.candidates;
  Candidate* waiting = cells + kRegionsExpanded * kGroupRows + kTouchedCandidates;
  Candidate* regions = waiting + max_candidates(1, scan.query->k) + kTouchedCandidates;
  auto* uppers = reinterpret_cast<float*>(regions + regions_at_once(in.catalog.num_items) + kTouchedCandidates);
  use_list(waiting, max_candidates(1, scan.query->k), scan);
  for (int64_t begin = 0; begin < all; begin += kRegionsAtOnce) {
    const int64_t end = smaller(begin + kRegionsAtOnce, all);
    bound_regions(in, begin, end, scan, first_regions, uppers);
    if (begin == 0) scan_first(in, first_regions, cells, scan);
    const int64_t count = list_regions(uppers, begin, end, scan.threshold, regions);
    if (begin == 0 && count > most_needed) {
      if (scan.query->num_best == scan.query->k) scan.least = scan.query->best[0].score;
      scan.query->num_best = 0;
      return false;
    }
    for (int64_t i = 0; i < count; i += kRegionsExpanded) {
      const Candidate* some = regions + i;
      const int64_t size = bound_cells(in, some, smaller(kRegionsExpanded, count - i), first_regions, scan, cells);
      scan_listed(in, cells, size, scan);
    }
  }
  score_candidates(in.catalog, scan);
  return true;
}

// Answers all queries except those that need most regions; moves these to the front and returns their number.
inline int64_t scan_cells(const Ordered& in, QueryScan* scans, int64_t num_queries) {
  const int64_t all = num_regions(in.last_item - in.first_item);
  // After an approximate scan, a scan of all rows could drop the rows the threshold came from: their bounds may be
  // below their scores.
  const bool gives_up = num_queries > 1 && scans[0].query->error_share == 1;
  const int64_t most_needed = gives_up ? all / kRegionsPerNeeded : all;
  start_block(in.catalog, in.first_item, in.last_item, in.block);
  int64_t left = 0;
  for (int64_t q = 0; q < num_queries; ++q) {
    Candidate* own_list = scans[q].candidates;
    const int64_t size = scans[q].max_candidates;
    if (scan_query(in, most_needed, scans[q])) continue;
    use_list(own_list, size, scans[q]);
    swap_scans(scans[left++], scans[q]);
  }
  return left;
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
