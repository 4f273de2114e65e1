// Included before the AVX-VNNI kernels, so that they can be tested on CPUs that have only AVX-512's encoding of
// vpdpbusd. Compiler flags and all other instructions stay the same.
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
