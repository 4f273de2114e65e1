// The part of `attention` (launch.h) that multiplies bfloat16.
#pragma once

#include "kernels/cuda/launch.h"

namespace lsif::cuda {

inline constexpr int64_t kMostBf16HeadDim = 128;

cudaError_t attention_bf16(const AttentionParams& params, const AttentionInput& input, const int64_t* offsets,
                           int64_t batch, float* y, int64_t y_stride, cudaStream_t stream);

}  // namespace lsif::cuda
