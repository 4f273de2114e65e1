#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/layer_norm.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

inline float mean(const float* x, int64_t dim) {
  Vec total = broadcast(0.0f);
  int64_t c = 0;
  for (; c + kLanes <= dim; c += kLanes) total = total + load(x + c);
  total = total + load_first(x + c, dim - c);
  return sum_lanes(total) / static_cast<float>(dim);
}

inline float variance(const float* x, int64_t dim, float center) {
  const Vec m = broadcast(center);
  Vec total = broadcast(0.0f);
  int64_t c = 0;
  for (; c + kLanes <= dim; c += kLanes) {
    const Vec d = load(x + c) - m;
    total = fma(d, d, total);
  }
  const Vec d = keep_first(load_first(x + c, dim - c) - m, dim - c, 0.0f);
  total = fma(d, d, total);
  return sum_lanes(total) / static_cast<float>(dim);
}

void layer_norm(const LayerNormParams& params, const float* x, int64_t x_stride, const float* gate, int64_t gate_stride,
                float* y, int64_t y_stride, int64_t num_rows) {
  const int64_t dim = params.dim;
  for (int64_t r = 0; r < num_rows; ++r, x += x_stride, y += y_stride) {
    const float center = mean(x, dim);
    const Vec m = broadcast(center);
    const Vec scale = broadcast(1.0f / __builtin_sqrtf(variance(x, dim, center) + params.eps));
    const float* g = gate == nullptr ? nullptr : gate + r * gate_stride;
    int64_t c = 0;
    for (; c + kLanes <= dim; c += kLanes) {
      const Vec z = fma((load(x + c) - m) * scale, load(params.weight + c), load(params.bias + c));
      store(y + c, g == nullptr ? z : z * load(g + c));
    }
    const int64_t n = dim - c;
    const Vec z =
        fma((load_first(x + c, n) - m) * scale, load_first(params.weight + c, n), load_first(params.bias + c, n));
    store_first(y + c, g == nullptr ? z : z * load_first(g + c, n), n);
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
