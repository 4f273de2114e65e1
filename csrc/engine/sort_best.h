// Results in order                                                                            (docs/score_topk.md)
#pragma once

#include <cstdint>

#include "kernels/score_topk.h"

namespace lsif::engine {

// The order of results: total, since no row occurs twice.
inline bool is_better(const ScoredItem& a, const ScoredItem& b) {
  return a.score > b.score || (a.score == b.score && a.item < b.item);
}

// Brings the k best (all, if there are fewer) to the front, in order, and returns their end. No score is NaN.
ScoredItem* sort_best(ScoredItem* begin, ScoredItem* end, int64_t k);

}  // namespace lsif::engine
