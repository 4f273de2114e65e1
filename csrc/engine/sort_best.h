// Sorting results                                                                            (docs/score_topk.md)
#pragma once

#include <cstdint>

#include "kernels/score_topk.h"

namespace lsif::engine {

// The order of results. It is total, since no row occurs twice.
inline bool is_better(const ScoredItem& a, const ScoredItem& b) {
  return a.score > b.score || (a.score == b.score && a.item < b.item);
}

// Moves the k best (all, if there are fewer) to the front, sorted, and returns their end. No score may be NaN.
ScoredItem* sort_best(ScoredItem* begin, ScoredItem* end, int64_t k);

}  // namespace lsif::engine
