// Heaps whose root is the worst item: the k best rows of a query so far, and candidates (topk_select.inl.h).
#pragma once

#include "kernels/cpu/simd_int4.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

inline bool is_worse(const ScoredItem& a, const ScoredItem& b) {
  return a.score < b.score || (a.score == b.score && a.item > b.item);
}

inline bool is_worse(const Candidate& a, const Candidate& b) { return a.upper < b.upper; }

// Inserts item at `hole`, moving worse items up. Each child of `hole` must be the root of a heap.
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

// Keeps item if it is among the k best so far; returns whether it is.
inline bool offer(TopkQuery& query, ScoredItem item) {
  if (query.num_best < query.k) {
    sift_up(query.best, query.num_best++, item);
    return true;
  }
  if (!is_worse(query.best[0], item)) return false;
  sift_down(query.best, query.k, 0, item);
  return true;
}

// Turns size items in any order into a heap.
template <typename Item>
inline void make_heap(Item* best, int64_t size) {
  for (int64_t hole = size / 2; hole-- > 0;) sift_down(best, size, hole, best[hole]);
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
