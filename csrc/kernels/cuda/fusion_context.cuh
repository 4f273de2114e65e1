// The inputs of the fusion besides the interests                                               (engine/encoded.cpp)
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/interest_fusion.h"

namespace lsif::cuda {

// Not inlined: it is 200 instructions of float64.
__device__ __attribute__((noinline)) inline double log_of_one_and(double x) { return log1p(x); }

__device__ inline float gap_feature(int64_t newest, int64_t now) {
  if (newest == kUnknownTime || now == kUnknownTime) return 0.0f;
  return static_cast<float>(log_of_one_and(static_cast<double>(elapsed(newest, now))) / log1p(kSecondsPerYear));
}

__device__ inline float length_feature(int64_t num_events) {
  return static_cast<float>(log_of_one_and(static_cast<double>(num_events)) / log1p(kManyEvents));
}

}  // namespace lsif::cuda
