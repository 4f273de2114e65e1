// Selection of the most promising waiting rows.
#pragma once

#include "kernels/cpu/topk_heap.inl.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

constexpr int64_t kLeastParted = 32;  // fewer are selected faster by a heap
constexpr int64_t kMostPasses = 8;    // over all candidates, before falling back to a heap: 2 to 4 are usual

inline void select_by_heap(Candidate* candidates, int64_t size, int64_t count) {
  make_heap(candidates, count);
  for (int64_t i = count; i < size; ++i) {
    if (!is_worse(candidates[0], candidates[i])) continue;
    const Candidate worst = candidates[0];
    sift_down(candidates, count, 0, candidates[i]);
    candidates[i] = worst;
  }
}

// Moves candidates with `is_first` to the front and returns their number. A block's comparisons come first, without
// branches, so that only the number of its exchanges can be mispredicted.
template <typename IsFirst>
inline int64_t part(Candidate* candidates, int64_t size, IsFirst is_first) {
  constexpr int64_t kBlock = 32;
  int64_t front = 0;
  for (int64_t begin = 0; begin < size; begin += kBlock) {
    const int64_t count = size - begin < kBlock ? size - begin : kBlock;
    uint32_t mask = 0;
    for (int64_t i = 0; i < count; ++i) mask |= static_cast<uint32_t>(is_first(candidates[begin + i])) << i;
    for (; mask != 0; mask &= mask - 1) {
      const int64_t place = begin + __builtin_ctz(mask);
      const Candidate candidate = candidates[place];
      candidates[place] = candidates[front];
      candidates[front++] = candidate;
    }
  }
  return front;
}

inline float middle_of(float a, float b, float c) {
  const float low = a < b ? a : b;
  const float high = a < b ? b : a;
  return c < low ? low : c < high ? c : high;
}

// Moves the `count` candidates with the largest bounds to the front, in any order: by quickselect, with a heap at the
// end if few are wanted or the pivots are bad. Not inlined: GCC 12 would then copy registers in the scan's loop.
__attribute__((noinline)) void select_largest(Candidate* candidates, int64_t size, int64_t count) {
  int64_t left = kMostPasses * size;
  while (0 < count && count < size) {
    if (count < kLeastParted || left < 0) return select_by_heap(candidates, size, count);
    left -= size;
    const float pivot = middle_of(candidates[0].upper, candidates[size / 2].upper, candidates[size - 1].upper);
    int64_t first = part(candidates, size, [pivot](const Candidate& c) { return c.upper > pivot; });
    if (first == 0) {
      // The pivot is the largest bound, perhaps of many.
      first = part(candidates, size, [pivot](const Candidate& c) { return c.upper == pivot; });
      if (first >= count) return;
    }
    if (first >= count) {
      size = first;
    } else {
      candidates += first;
      size -= first;
      count -= first;
    }
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
