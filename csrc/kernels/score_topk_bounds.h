// Slack of the bounds of scores and the units they are computed in, on every device   (docs/score_topk.md, "Rounding
// and range"). All functions are always inlined, so that the kernels of several instruction sets share no copy of them.
#pragma once

#include <cstdint>

namespace lsif {

inline constexpr double kOutwards = 1 + 0x1p-30;  // far above the rounding of float64 sums over a row, below dim 2^-52
inline constexpr float kNormSlack = 0x1p-18f;
inline constexpr double kLogSlack = 0x1p-20;
inline constexpr double kUnderflowSlack = 0x1p-80;

__attribute__((always_inline)) constexpr int32_t float_bits(float x) { return __builtin_bit_cast(int32_t, x); }

// 2^exponent; 0 below the normal numbers.
__attribute__((always_inline)) constexpr float power_of_2(int exponent) {
  return exponent < -126 ? 0.0f : __builtin_bit_cast(float, static_cast<int32_t>(exponent + 127) << 23);
}

// An e with x < 2^e for the x >= 0 of these bits, as far as 2^-126 <= 2^e <= 2^126; so x 2^-e <= 4 for all finite x.
__attribute__((always_inline)) constexpr int exponent_above(int32_t bits) {
  const int exponent = (bits >> 23) - 126;
  return exponent < -126 ? -126 : exponent > 126 ? 126 : exponent;
}

}  // namespace lsif
