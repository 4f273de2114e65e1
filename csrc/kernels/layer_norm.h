// y[r] = ((x[r] - mean(x[r])) / sqrt(var(x[r]) + eps) * weight + bias) * gate[r]
//
// LayerNorm (Ba et al. 2016) with the biased variance, as in torch, and an optional gate for the hstu block
// (docs/model.md, 2). y may be x (same pointer and stride); num_rows may be 0. Two passes (mean, then centred variance)
// with float32 accumulators. With u = 2^-24, the error of the mean is at most (dim + 2) u mean|x|, that of the variance
// at most the square of this plus (dim + 5) u of itself.
#pragma once

#include "kernels/types.h"

namespace lsif {

struct LayerNormParams {
  const float* weight;  // [dim]
  const float* bias;    // [dim]
  int64_t dim;
  float eps;
};

// gate: [num_rows, dim] with gate_stride, or null: no gate.
using LayerNormFn = void(const LayerNormParams& params, const float* x, int64_t x_stride, const float* gate,
                         int64_t gate_stride, float* y, int64_t y_stride, int64_t num_rows);

}  // namespace lsif
