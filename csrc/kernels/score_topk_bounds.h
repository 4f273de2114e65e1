// The slack of score bounds and the units they are computed in, for every device (docs/score_topk.md, "Rounding and
// range"). All functions are always inlined, so that kernels for different instruction sets do not share one copy.
#pragma once

#include <cstdint>

namespace lsif {

inline constexpr double kOutwards = 1 + 0x1p-30;  // far above the rounding of float64 sums over a row, < dim 2^-52
inline constexpr float kNormSlack = 0x1p-18f;
inline constexpr double kLogSlack = 0x1p-20;
inline constexpr double kUnderflowSlack = 0x1p-80;

__attribute__((always_inline)) constexpr int32_t float_bits(float x) { return __builtin_bit_cast(int32_t, x); }

// 2^exponent; 0 if that is below the normal numbers.
__attribute__((always_inline)) constexpr float power_of_2(int exponent) {
  return exponent < -126 ? 0.0f : __builtin_bit_cast(float, static_cast<int32_t>(exponent + 127) << 23);
}

// For x >= 0 with these bits, an e such that x < 2^e, as far as 2^-126 <= 2^e <= 2^126; so x 2^-e <= 4 for all finite
// x.
__attribute__((always_inline)) constexpr int exponent_above(int32_t bits) {
  const int exponent = (bits >> 23) - 126;
  return exponent < -126 ? -126 : exponent > 126 ? 126 : exponent;
}

}  // namespace lsif
