#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/embedding.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// Rows lie anywhere in a large table: they are asked for some rows ahead of their use.
inline constexpr int64_t kAhead = 6;
inline constexpr int64_t kLineFloats = 16;

void embedding(const EmbeddingParams& params, const int64_t* item, const int64_t* action, int64_t num_rows, float* y,
               int64_t y_stride) {
  const int64_t dim = params.dim;
  for (int64_t r = 0; r < num_rows; ++r, y += y_stride) {
    const float* x = params.items + item[r] * dim;
    if (r + kAhead < num_rows) {
      const float* next = params.items + item[r + kAhead] * dim;
      for (int64_t c = 0; c < dim; c += kLineFloats) __builtin_prefetch(next + c);
    }
    if (params.actions == nullptr) {
      int64_t c = 0;
      for (; c + kLanes <= dim; c += kLanes) store(y + c, load(x + c));
      store_first(y + c, load_first(x + c, dim - c), dim - c);
      continue;
    }
    const float* a = params.actions + (action == nullptr ? 0 : action[r]) * dim;
    int64_t c = 0;
    for (; c + kLanes <= dim; c += kLanes) store(y + c, load(x + c) + load(a + c));
    store_first(y + c, load_first(x + c, dim - c) + load_first(a + c, dim - c), dim - c);
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
