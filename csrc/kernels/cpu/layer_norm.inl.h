#pragma once

#include "kernels/cpu/multiply_add.inl.h"
#include "kernels/cpu/simd.h"
#include "kernels/layer_norm.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// Rows normalised at once: several independent sums hide the latency of each other's additions.
inline constexpr int kNormRows = 4;

// mean[r]: the mean of one term per value of row r; add(r, x, n, total) adds the terms of the first n values of x.
template <int kRows, typename Add>
LSIF_INLINE void row_means(const float* x, int64_t x_stride, int64_t dim, float (&mean)[kRows], Add add) {
  Vec total[kRows];
  for (int r = 0; r < kRows; ++r) total[r] = broadcast(0.0f);
  int64_t c = 0;
  for (; c + kLanes <= dim; c += kLanes) {
    for (int r = 0; r < kRows; ++r) total[r] = add(r, load(x + r * x_stride + c), kLanes, total[r]);
  }
  if (c < dim) {
    for (int r = 0; r < kRows; ++r) total[r] = add(r, load_first(x + r * x_stride + c, dim - c), dim - c, total[r]);
  }
  for (int r = 0; r < kRows; ++r) mean[r] = sum_lanes(total[r]) / static_cast<float>(dim);
}

template <int kRows>
LSIF_INLINE void norm_rows(const LayerNormParams& params, const float* x, int64_t x_stride, const float* gate,
                           int64_t gate_stride, float* y, int64_t y_stride) {
  const int64_t dim = params.dim;
  float mean[kRows];
  float variance[kRows];
  Vec center[kRows];
  Vec scale[kRows];
  row_means(x, x_stride, dim, mean, [](int, Vec a, int64_t, Vec total) { return total + a; });
  for (int r = 0; r < kRows; ++r) center[r] = broadcast(mean[r]);
  row_means(x, x_stride, dim, variance, [&](int r, Vec a, int64_t n, Vec total) {
    const Vec d = n < kLanes ? keep_first(a - center[r], n, 0.0f) : a - center[r];
    return fma(d, d, total);
  });
  for (int r = 0; r < kRows; ++r) scale[r] = broadcast(1.0f / __builtin_sqrtf(variance[r] + params.eps));
  int64_t c = 0;
  for (; c + kLanes <= dim; c += kLanes) {
    for (int r = 0; r < kRows; ++r) {
      const Vec z =
          fma((load(x + r * x_stride + c) - center[r]) * scale[r], load(params.weight + c), load(params.bias + c));
      store(y + r * y_stride + c, gate == nullptr ? z : z * load(gate + r * gate_stride + c));
    }
  }
  const int64_t n = dim - c;
  for (int r = 0; r < kRows && n > 0; ++r) {
    const Vec z = fma((load_first(x + r * x_stride + c, n) - center[r]) * scale[r], load_first(params.weight + c, n),
                      load_first(params.bias + c, n));
    store_first(y + r * y_stride + c, gate == nullptr ? z : z * load_first(gate + r * gate_stride + c, n), n);
  }
}

void layer_norm(const LayerNormParams& params, const float* x, int64_t x_stride, const float* gate, int64_t gate_stride,
                float* y, int64_t y_stride, int64_t num_rows) {
  for (int64_t row = 0; row < num_rows; row += kNormRows) {
    with_rows<kNormRows>(smaller(kNormRows, num_rows - row), row, [&](auto rows, int64_t r) {
      norm_rows<rows.value>(params, x + r * x_stride, x_stride, gate == nullptr ? nullptr : gate + r * gate_stride,
                            gate_stride, y + r * y_stride, y_stride);
    });
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
