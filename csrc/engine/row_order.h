// The order in which a catalogue's rows are coded: close ones beside each other         (docs/score_topk.md, "Cells")
#pragma once

#include <cstdint>
#include <vector>

namespace lsif::engine {

enum class Ordering {
  kWherePaying,  // by cluster or by length, where there are many rows and a search is likely to skip enough of them
  kNever,
  kAlways,
};

// The row of each slot, each row once; empty: as they are. The same for any number of threads.
//   vectors [num_items, dim], finite; bias [num_items], finite, or null: zero
std::vector<int32_t> order_rows(const float* vectors, const float* bias, int64_t num_items, int64_t dim,
                                Ordering ordering, int threads);

}  // namespace lsif::engine
