// The part of `linear` (launch.h) that multiplies bfloat16.
#pragma once

#include "kernels/cuda/launch.h"

namespace lsif::cuda {

struct LinearRows {
  const float* x;
  int64_t x_stride;
  const float* residual;  // or null
  int64_t residual_stride;
  float* y;
  int64_t y_stride;
  int64_t count;
};

cudaError_t linear_bf16(const LinearParams& params, const LinearRows& rows, cudaStream_t stream);

}  // namespace lsif::cuda
