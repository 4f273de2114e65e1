// Lets the AVX-512 kernels be compiled with AVX2 flags, and so tested without an AVX-512 machine: SIMDe maps the
// _mm512_* intrinsics to narrower ones. Those that our kernels use and SIMDe 0.7.4 lacks are added here, lane by lane.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

namespace lsif::emulated {

struct FloatLanes {
  float lane[16];
};
struct IntLanes {
  int lane[16];
};

inline FloatLanes float_lanes(__m512 x) {
  FloatLanes lanes;
  _mm512_storeu_ps(lanes.lane, x);
  return lanes;
}

inline IntLanes int_lanes(__m512i x) {
  IntLanes lanes;
  _mm512_storeu_si512(lanes.lane, x);
  return lanes;
}

inline __m512 cvtepi32_ps(__m512i x) {
  const IntLanes in = int_lanes(x);
  FloatLanes out;
  for (int i = 0; i < 16; ++i) out.lane[i] = static_cast<float>(in.lane[i]);
  return _mm512_loadu_ps(out.lane);
}

inline __m512i cvtps_epi32(__m512 x) {
  const FloatLanes in = float_lanes(x);
  IntLanes out;
  for (int i = 0; i < 16; ++i) out.lane[i] = _mm_cvtss_si32(_mm_set_ss(in.lane[i]));
  return _mm512_loadu_si512(out.lane);
}

inline __m512 maskz_loadu_ps(__mmask16 mask, const float* x) {
  FloatLanes out;
  for (int i = 0; i < 16; ++i) out.lane[i] = (mask >> i & 1) != 0 ? x[i] : 0.0f;
  return _mm512_loadu_ps(out.lane);
}

inline void mask_storeu_ps(float* y, __mmask16 mask, __m512 x) {
  const FloatLanes in = float_lanes(x);
  for (int i = 0; i < 16; ++i) {
    if ((mask >> i & 1) != 0) y[i] = in.lane[i];
  }
}

// The hardware's order: the halves are added first.
inline float reduce_add_ps(__m512 x) {
  FloatLanes sum = float_lanes(x);
  for (int n = 8; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) sum.lane[i] += sum.lane[i + n];
  }
  return sum.lane[0];
}

inline float reduce_max_ps(__m512 x) {
  const FloatLanes in = float_lanes(x);
  float best = in.lane[0];
  for (int i = 1; i < 16; ++i) best = in.lane[i] > best ? in.lane[i] : best;
  return best;
}

inline int reduce_add_epi32(__m512i x) {
  const IntLanes in = int_lanes(x);
  unsigned sum = 0;
  for (int i = 0; i < 16; ++i) sum += static_cast<unsigned>(in.lane[i]);
  return static_cast<int>(sum);
}

}  // namespace lsif::emulated

// Macros, because the compiler declares functions with these names that cannot be called without AVX-512 flags.
#define _mm512_cvtepi32_ps ::lsif::emulated::cvtepi32_ps
#define _mm512_cvtps_epi32 ::lsif::emulated::cvtps_epi32
#define _mm512_maskz_loadu_ps ::lsif::emulated::maskz_loadu_ps
#define _mm512_mask_storeu_ps ::lsif::emulated::mask_storeu_ps
#define _mm512_reduce_add_ps ::lsif::emulated::reduce_add_ps
#define _mm512_reduce_max_ps ::lsif::emulated::reduce_max_ps
#define _mm512_reduce_add_epi32 ::lsif::emulated::reduce_add_epi32
