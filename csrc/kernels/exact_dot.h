// The inner product that decides score_topk's results, bit-identical on every CPU and GPU    (docs/score_topk.md)
#pragma once

#include <cstdint>

namespace lsif {

// q . x in float64, in which each product is exact; the order of the additions depends only on dim. Eight partial sums
// let a compiler use vectors of up to eight lanes, or a GPU eight threads (cuda/exact_score.cuh), without changing that
// order. Compile it without FMA contraction. Always inlined: each caller gets code for its own instruction set, and
// there is no shared copy from which the linker could choose one for all.
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
