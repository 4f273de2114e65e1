#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/embedding.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// Rows are scattered over a large table, so they are prefetched into the L2 cache this many rows ahead.
inline constexpr int64_t kAhead = 24;
inline constexpr int64_t kLine = 64;

// From bfloat16 to float32. A lane holds two bfloat16 values, in its lower and upper halves.
inline void widen_row(const uint16_t* x, int64_t dim, float* y) {
  int64_t c = 0;
  for (; c + 2 * kLanes <= dim; c += 2 * kLanes) {
    Vec pairs;
    __builtin_memcpy(&pairs, x + c, sizeof(pairs));
    Vec low;
    Vec high;
    interleave(lower_halves(pairs), upper_halves(pairs), low, high);
    store(y + c, low);
    store(y + c + kLanes, high);
  }
  for (; c < dim; ++c) {
    const uint32_t bits = static_cast<uint32_t>(x[c]) << 16;
    __builtin_memcpy(y + c, &bits, sizeof(bits));
  }
}

inline void embedding_row(const EmbeddingParams& params, int64_t item, int64_t action, float* y) {
  const int64_t dim = params.dim;
  if (params.items_bf16 != nullptr) return widen_row(params.items_bf16 + item * dim, dim, y);
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
      const int64_t size = params.items_bf16 == nullptr ? sizeof(float) : sizeof(uint16_t);
      const char* table = params.items_bf16 == nullptr ? reinterpret_cast<const char*>(params.items)
                                                       : reinterpret_cast<const char*>(params.items_bf16);
      const char* next = table + item[r] * params.dim * size;
      for (int64_t c = 0; c < params.dim * size; c += kLine) __builtin_prefetch(next + c, 0, 2);
    }
    const int64_t row = r - kAhead;
    if (row >= 0) embedding_row(params, item[row], action == nullptr ? 0 : action[row], y + row * y_stride);
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
