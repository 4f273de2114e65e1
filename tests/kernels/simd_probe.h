// What simd.h, exp2_above.inl.h and topk_select.inl.h offer, as functions on arrays, so that one test can look at every
// instruction set's version.
#pragma once

#include <cstdint>

namespace lsif::cpu {

struct BoundedRow {  // a Candidate
  float upper;
  uint32_t row;
};

struct SimdProbe {
  const char* isa;
  int64_t lanes;
  bool fused;  // fma rounds once
  void (*exp)(const float* x, int64_t n, float* y);
  void (*exp2)(const float* x, int64_t n, float* y);
  void (*exp2_above)(const float* x, int64_t n, float* y);
  void (*silu)(const float* x, int64_t n, float* y);
  void (*gelu)(const float* x, int64_t n, float* y);
  void (*coarse_gelu)(const float* x, int64_t n, float* y);
  void (*relu)(const float* x, int64_t n, float* y);
  void (*copy_first)(const float* x, int64_t n, float* y);      // one vector: load_first, store_first
  void (*load_first)(const float* x, int64_t n, float* lanes);  // all lanes of load_first(x, n)
  void (*keep_first)(const float* x, int64_t n, float* lanes);  // all lanes of keep_first(load(x), n, -1)
  void (*arithmetic)(const float* a, const float* b, const float* c,
                     float* out);                                       // one vector each: + - * / fma max min
  void (*scale_pow2)(const float* a, const float* n, float* y);         // one vector
  void (*interleave)(const float* a, const float* b, float* low_high);  // one vector each
  float (*sum_lanes)(const float* x);
  float (*max_lanes)(const float* x);
  void (*select_largest)(BoundedRow* rows, int64_t size, int64_t count);
};

const SimdProbe& scalar_simd_probe();
#if defined(LSIF_HAVE_AVX2)
const SimdProbe& avx2_simd_probe();
#endif
#if defined(LSIF_HAVE_AVX2VNNI)
const SimdProbe& avx2vnni_simd_probe();
#endif
#if defined(LSIF_TEST_AVX2VNNI_EVEX)
const SimdProbe& avx2vnni_evex_simd_probe();
#endif
#if defined(LSIF_HAVE_AVX512)
const SimdProbe& avx512_simd_probe();
#endif
#if defined(LSIF_HAVE_AVX512BF16)
const SimdProbe& avx512bf16_simd_probe();
#endif
#if defined(LSIF_HAVE_NEON)
const SimdProbe& neon_simd_probe();
#endif
#if defined(LSIF_EMULATE_AVX512)
const SimdProbe& avx512emu_simd_probe();
#endif

}  // namespace lsif::cpu
