// Implements kernels/score_topk.h. docs/score_topk.md derives the bounds and the slack for rounding used here.
#pragma once

#include "kernels/cpu/topk_cells.inl.h"
#include "kernels/cpu/topk_regions.inl.h"
#include "kernels/cpu/topk_unordered.inl.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

void score_topk(const CatalogView& catalog, int64_t first_item, int64_t last_item, TopkQuery* queries,
                int64_t num_queries, void* scratch) {
  if (num_queries == 0) return;
  auto* bytes = static_cast<uint8_t*>(scratch);
  Block& block = *reinterpret_cast<Block*>(bytes);
  uint8_t* memory = bytes + kBytesPerScan;
  bytes = memory + order_scratch_size(catalog, num_queries, queries[0].k);
  const Units units = units_of(catalog, queries, num_queries);
  QueryScan* scans = start_queries(catalog, units, first_item, queries, num_queries, bytes);
  if (catalog.codes.order != nullptr) {
    const Ordered in = {catalog, units, first_item, last_item, block, reinterpret_cast<Candidate*>(memory)};
    if (!catalog.codes.by_length) num_queries = scan_cells(in, scans, num_queries);
    scan_regions(in, scans, num_queries);
  } else {
    scan_unordered({catalog, units, block, memory}, first_item, last_item, scans, num_queries);
  }
  for (int64_t q = 0; q < num_queries; ++q) score_candidates(catalog, scans[q]);
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
