#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/embedding.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// Rows lie anywhere in a large table: they are asked for, into the second-level cache, so many rows ahead of their use.
inline constexpr int64_t kAhead = 24;
inline constexpr int64_t kLineFloats = 16;

inline void embedding_row(const EmbeddingParams& params, int64_t item, int64_t action, float* y) {
  const int64_t dim = params.dim;
  const float* x = params.items + item * dim;
  int64_t c = 0;
  if (params.actions == nullptr) {
    for (; c + kLanes <= dim; c += kLanes) store(y + c, load(x + c));
    return store_first(y + c, load_first(x + c, dim - c), dim - c);
  }
  const float* a = params.actions + action * dim;
  for (; c + kLanes <= dim; c += kLanes) store(y + c, load(x + c) + load(a + c));
  store_first(y + c, load_first(x + c, dim - c) + load_first(a + c, dim - c), dim - c);
}

void embedding(const EmbeddingParams& params, const int64_t* item, const int64_t* action, int64_t num_rows, float* y,
               int64_t y_stride) {
  for (int64_t r = 0; r < num_rows + kAhead; ++r) {
    if (r < num_rows) {
      const float* next = params.items + item[r] * params.dim;
      for (int64_t c = 0; c < params.dim; c += kLineFloats) __builtin_prefetch(next + c, 0, 2);
    }
    const int64_t row = r - kAhead;
    if (row >= 0) embedding_row(params, item[row], action == nullptr ? 0 : action[row], y + row * y_stride);
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
