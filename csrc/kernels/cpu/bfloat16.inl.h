// Products of bfloat16 numbers, added in float32: vdpbf16ps if the variant has it, otherwise float32 arithmetic with
// the same sums.
#pragma once

#include "kernels/cpu/multiply_add.inl.h"
#include "kernels/cpu/simd.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

#if defined(LSIF_SIMD_AVX512BF16)

using Rounded = uint16_t;  // storage of a rounded x

// y: room for n rounded up to a multiple of kLanes; values past n are set to 0.
inline void round_to_bf16(const float* x, int64_t n, Rounded* y) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const __m256bh rounded = _mm512_cvtneps_pbh(load_first(x + i, smaller(n - i, kLanes)).v);
    __builtin_memcpy(y + i, &rounded, sizeof(rounded));
  }
}

// The first n floats of x as consecutive bfloat16 values, two per lane, and 0 past them.
LSIF_INLINE Vec round_pairs(const float* x, int64_t n) {
  const Vec low = load_first(x, smaller(n, kLanes));
  const Vec high = n > kLanes ? load_first(x + kLanes, smaller(n - kLanes, kLanes)) : broadcast(0.0f);
  return {reinterpret_cast<__m512>(_mm512_cvtne2ps_pbh(high.v, low.v))};
}

// Lane c: the pair (a[c], b[c]) as bfloat16.
LSIF_INLINE Vec round_beside(Vec a, Vec b) {
  alignas(64) static constexpr uint16_t kOrder[] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                    8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b.v, a.v));
  return {_mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_load_si512(kOrder), both))};
}

LSIF_INLINE __m512bh broadcast_pair(const Rounded* p) {
  int pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
}

// acc[r][v] += x[r][0] b[.][v][0] + x[r][1] b[.][v][1]: b stores two consecutive rows interleaved.
template <int kRows, int kVecs>
LSIF_INLINE void add_pair(const Rounded* x, int64_t x_stride, const uint16_t* b, int64_t panel_stride,
                          Vec (&acc)[kRows][kVecs]) {
  __m512bh weights[kVecs];
  for (int v = 0; v < kVecs; ++v) {
    weights[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + 2 * vec_offset(v, panel_stride)));
  }
  for (int r = 0; r < kRows; ++r) {
    const __m512bh xi = broadcast_pair(x + r * x_stride);
    for (int v = 0; v < kVecs; ++v) acc[r][v] = {_mm512_dpbf16_ps(acc[r][v].v, xi, weights[v])};
  }
}

#else

using Rounded = float;

// The bits of x rounded; the lower half is 0.
LSIF_INLINE uint32_t rounded_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const bool is_nan = (bits & 0x7FFFFFFF) > 0x7F800000;
  return (is_nan ? bits | 0x400000 : bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000;
}

inline void round_to_bf16(const float* x, int64_t n, Rounded* y) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t rounded = rounded_bits(x[i]);
    __builtin_memcpy(y + i, &rounded, sizeof(rounded));
  }
  for (int64_t i = n; i % kLanes != 0; ++i) y[i] = 0;
}

LSIF_INLINE Vec load_words(const uint32_t* words) {
  Vec a;
  __builtin_memcpy(&a, words, sizeof(a));
  return a;
}

LSIF_INLINE Vec round_pairs(const float* x, int64_t n) {
  uint32_t words[kLanes];
  for (int64_t c = 0; c < kLanes; ++c) {
    words[c] = 2 * c < n ? rounded_bits(x[2 * c]) >> 16 : 0;
    if (2 * c + 1 < n) words[c] |= rounded_bits(x[2 * c + 1]);
  }
  return load_words(words);
}

LSIF_INLINE Vec round_beside(Vec a, Vec b) {
  float low[kLanes], high[kLanes];
  store(low, a);
  store(high, b);
  uint32_t words[kLanes];
  for (int c = 0; c < kLanes; ++c) words[c] = rounded_bits(low[c]) >> 16 | rounded_bits(high[c]);
  return load_words(words);
}

LSIF_INLINE Vec load_pairs(const uint16_t* p) {
  Vec both;
  __builtin_memcpy(&both, p, sizeof(both));
  return both;
}

template <int kRows, int kVecs>
LSIF_INLINE void add_pair(const Rounded* x, int64_t x_stride, const uint16_t* b, int64_t panel_stride,
                          Vec (&acc)[kRows][kVecs]) {
  for (int i = 1; i >= 0; --i) {  // vdpbf16ps adds the second product first
    Vec weights[kVecs];
    for (int v = 0; v < kVecs; ++v) {
      const Vec both = load_pairs(b + 2 * vec_offset(v, panel_stride));
      weights[v] = i == 0 ? lower_halves(both) : upper_halves(both);
    }
    for (int r = 0; r < kRows; ++r) {
      const Vec xi = broadcast(x[r * x_stride + i]);
      for (int v = 0; v < kVecs; ++v) acc[r][v] = fma(xi, weights[v], acc[r][v]);
    }
  }
}

#endif

// acc[r][v] += sum_i x[r][i] B[i][v] over pairs of i, which are b_stride pairs apart in b. Each lane is one chain, as
// in multiply_add.
template <int kRows, int kVecs>
LSIF_INLINE void multiply_add_pairs(const Rounded* x, int64_t x_stride, const uint16_t* b, int64_t b_stride,
                                    int64_t panel_stride, int64_t pairs, Vec (&acc)[kRows][kVecs]) {
  for (int64_t i = 0; i < pairs; ++i) {
    add_pair<kRows, kVecs>(x + 2 * i, x_stride, b + 2 * i * b_stride, panel_stride, acc);
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
