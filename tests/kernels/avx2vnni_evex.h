// Included before the kernels for AVX-VNNI, so that they can be tested where the CPU knows AVX-512's encoding of
// vpdpbusd alone. Flags and all other instructions stay as they are.
#pragma once

#include <immintrin.h>

namespace lsif::evex {

inline __attribute__((always_inline)) __m256i dpbusd(__m256i sum, __m256i a, __m256i b) {
  asm("%{evex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
  return sum;
}

}  // namespace lsif::evex

#undef _mm256_dpbusd_avx_epi32
#define _mm256_dpbusd_avx_epi32 ::lsif::evex::dpbusd
