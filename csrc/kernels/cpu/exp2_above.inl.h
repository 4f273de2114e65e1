// Upper bounds of exponentials, for the bounds of several interests (docs/score_topk.md).
#pragma once

#include "kernels/cpu/simd.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

constexpr float kMostExponent = 252.0f;

// Between (1 + 2^-14) 2^x and (1 + 2^-8) 2^x if that is a normal number; with one more rounding if it is subnormal;
// infinite or NaN if it is too large, 0 if too small; NaN stays NaN. The polynomials, for 2^r with 0 <= r < 1 and with
// |r| <= 1/2, are the best of degree 2.
#if defined(LSIF_SIMD_AVX512)
LSIF_INLINE Vec exp2_above(Vec x) {
  const Vec r = {_mm512_reduce_ps(x.v, _MM_FROUND_TO_NEG_INF)};
  const Vec p = fma(fma(broadcast(0.33781326f), r, broadcast(0.65885293f)), r, broadcast(1.003577948f));
  return {_mm512_scalef_ps(p.v, x.v)};  // scalef takes the floor of x
}
#else
LSIF_INLINE Vec exp2_above(Vec x) {
  x = max(broadcast(-kMostExponent), min(broadcast(kMostExponent), x));
  const Vec n = (x + broadcast(kShift)) - broadcast(kShift);
  const Vec r = x - n;
  const Vec p = fma(fma(broadcast(0.23887004f), r, broadcast(0.7047494f)), r, broadcast(1.002293944f));
  return scale_pow2(p, n);
}
#endif

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
