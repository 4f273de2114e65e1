// The order in which a catalogue's rows are coded, so that a search can skip many       (docs/score_topk.md, "Cells")
#pragma once

#include <cstdint>
#include <vector>

namespace lsif::engine {

enum class Ordering {
  kWherePaying,  // by cluster or by length, if there are many rows and a search is likely to skip enough of them
  kNever,
  kAlways,
};

struct RowOrder {
  std::vector<int32_t> rows;  // the row of each slot, a permutation; empty: slot i is row i
  bool by_length = false;     // sorted by length, longest first; otherwise close rows are adjacent
};

// The result is the same for any number of threads.
//   vectors [num_items, dim], finite; bias [num_items], finite, or null: zero
RowOrder order_rows(const float* vectors, const float* bias, int64_t num_items, int64_t dim, Ordering ordering,
                    int threads);

}  // namespace lsif::engine
