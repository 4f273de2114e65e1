// y[r] = residual[r] + activation(x[r] W^T + bias)
//
// W is [out_dim, in_dim] as in torch, repacked once into panels of kLinearPanel output columns: packed[p][i][c] = W[p *
// kLinearPanel + c][i], zero past out_dim. Each output is one chain of fused multiply-adds (in the scalar variant, a
// multiply and an add) over i = 0 .. in_dim - 1 that starts at the bias. So a row's result does not depend on the other
// rows: it has the same bits in any batch. Error bounds:
//   before the activation: (in_dim + 2) 2^-24 (|bias| + sum_i |x_i W_i|)
//   silu(z): 2^-21 of the result
//   gelu(z) = z Phi(z): 2^-22 min(|z|, 5.25) + 2^-24 of the result; on a GPU 6 * 2^-23 of the result (5 units in the
//   last place for CUDA's normcdff, and the product)
//
// In bfloat16 (packed_bf16 instead of packed), x and W are first rounded to 8 bits of precision, to nearest, ties to
// even; magnitudes below 2^-126 may count as 0. The products are then exact and are added in float32 in pairs of i,
// with at most two roundings per pair. The bounds above hold for the rounded x and W, except that gelu's becomes 1.25 *
// 2^-13 min(|z|, 1) + 2^-24 of the result. The rounding of x and W itself changes the result by at most (2^-7 + 2^-16)
// sum_i |x_i W_i|.
#pragma once

#include "kernels/types.h"

namespace lsif {

inline constexpr int64_t kLinearPanel = 16;

struct LinearParams {
  const float* packed;  // packed_linear_size(in_dim, out_dim) floats, from pack_linear, 64-byte aligned
  const float* bias;    // [out_dim], or null: zero
  int64_t in_dim;
  int64_t out_dim;
  Activation activation;
  const uint16_t* packed_bf16 = nullptr;  // packed_bf16_size(in_dim, out_dim) values from pack_linear_bf16
};

constexpr int64_t packed_linear_size(int64_t in_dim, int64_t out_dim) {
  return divide_up(out_dim, kLinearPanel) * kLinearPanel * in_dim;
}

// weight: [out_dim, in_dim], contiguous. The layout is the same for every ISA.
void pack_linear(const float* weight, int64_t in_dim, int64_t out_dim, float* packed);

// Rounds x, which must be finite, to 8 bits of precision, to nearest, ties to even.
void to_bfloat16(const float* x, int64_t n, uint16_t* y);

// The size in bfloat16 values: panels of [(in_dim + 1) / 2][kLinearPanel][2], zero past in_dim and out_dim.
constexpr int64_t packed_bf16_size(int64_t in_dim, int64_t out_dim) {
  return packed_linear_size((in_dim + 1) / 2 * 2, out_dim);
}

void pack_linear_bf16(const float* weight, int64_t in_dim, int64_t out_dim, uint16_t* packed);

// Outputs first .. first + count - 1 of the layer, as a layer of their own. first: a multiple of kLinearPanel.
constexpr LinearParams linear_slice(const LinearParams& params, int64_t first, int64_t count) {
  LinearParams slice = params;
  if (params.packed != nullptr) slice.packed += first * params.in_dim;
  if (params.packed_bf16 != nullptr) slice.packed_bf16 += first * ((params.in_dim + 1) / 2 * 2);
  if (params.bias != nullptr) slice.bias += first;
  slice.out_dim = count;
  return slice;
}

// residual: [num_rows, out_dim], or null: zero. y may be residual (same pointer and stride); y must not overlap x.
// num_rows may be 0.
using LinearFn = void(const LinearParams& params, const float* x, int64_t x_stride, const float* residual,
                      int64_t residual_stride, float* y, int64_t y_stride, int64_t num_rows);

}  // namespace lsif
