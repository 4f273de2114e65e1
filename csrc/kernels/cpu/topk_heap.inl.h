// The k best rows of a query so far, and the most promising ones of those that wait: heaps whose root is the worst.
#pragma once

#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

inline bool is_worse(const ScoredItem& a, const ScoredItem& b) {
  return a.score < b.score || (a.score == b.score && a.item > b.item);
}

// A row that may be among the k best. Rows are counted from the first one of the scan.
struct Candidate {
  float upper;  // the bound of its score, in the scan's unit; not NaN
  uint32_t row;
};

inline bool is_worse(const Candidate& a, const Candidate& b) { return a.upper < b.upper; }

// Puts item into the heap at `hole`, whose children are worse than their children, letting worse ones rise.
template <typename Item>
inline void sift_down(Item* best, int64_t size, int64_t hole, Item item) {
  for (;;) {
    int64_t child = 2 * hole + 1;
    if (child >= size) break;
    if (child + 1 < size && is_worse(best[child + 1], best[child])) ++child;
    if (!is_worse(best[child], item)) break;
    best[hole] = best[child];
    hole = child;
  }
  best[hole] = item;
}

inline void sift_up(ScoredItem* best, int64_t hole, ScoredItem item) {
  while (hole > 0) {
    const int64_t parent = (hole - 1) / 2;
    if (!is_worse(item, best[parent])) break;
    best[hole] = best[parent];
    hole = parent;
  }
  best[hole] = item;
}

// Keeps item if it is among the k best so far; true if it is.
inline bool offer(TopkQuery& query, ScoredItem item) {
  if (query.num_best < query.k) {
    sift_up(query.best, query.num_best++, item);
    return true;
  }
  if (!is_worse(query.best[0], item)) return false;
  sift_down(query.best, query.k, 0, item);
  return true;
}

// Brings the `count` candidates of the largest bounds to the front, in any order.
inline void select_largest(Candidate* candidates, int64_t size, int64_t count) {
  if (count >= size) return;
  for (int64_t hole = count / 2; hole-- > 0;) sift_down(candidates, count, hole, candidates[hole]);
  for (int64_t i = count; i < size; ++i) {
    if (!is_worse(candidates[0], candidates[i])) continue;
    const Candidate worst = candidates[0];
    sift_down(candidates, count, 0, candidates[i]);
    candidates[i] = worst;
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
