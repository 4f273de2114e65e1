// The inner product that decides in score_topk, the same bits on every CPU and GPU      (docs/score_topk.md)
#pragma once

#include <cstdint>

namespace lsif {

// q . x in float64, where the products are exact; the order of the additions depends on dim alone. Eight partial sums,
// so that a compiler may use vectors of any width up to eight, or eight lanes of a GPU (cuda/exact_score.cuh), without
// changing the order. To be compiled without contraction. Always inlined: each caller has the vectors of its own
// instruction set, and there is no copy that the linker could keep for all.
__attribute__((always_inline)) inline double exact_dot(const float* q, const float* x, int64_t dim) {
  constexpr int kSums = 8;
  double sum[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= dim; i += kSums) {
    for (int j = 0; j < kSums; ++j) sum[j] += static_cast<double>(q[i + j]) * static_cast<double>(x[i + j]);
  }
  for (int j = 0; j < kSums; ++j) {
    if (i + j < dim) sum[j] += static_cast<double>(q[i + j]) * static_cast<double>(x[i + j]);
  }
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

}  // namespace lsif
