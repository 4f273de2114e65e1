// The operations of simd.h, exp2_above.inl.h and topk_select.inl.h as functions on arrays, so that one test can check
// every instruction set's version.
#pragma once

#include <cstdint>

#include "kernels/cpu/isas.h"

namespace lsif::cpu {

struct BoundedRow {  // a Candidate
  float upper;
  uint32_t row;
};

struct SimdProbe {
  const char* isa;
  int64_t lanes;
  bool fused;  // whether fma rounds once
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

#define LSIF_DECLARE(name) const SimdProbe& name##_simd_probe();
LSIF_ISAS(LSIF_DECLARE)
LSIF_DECLARE(avx2vnni_evex)
LSIF_DECLARE(avx512emu)
#undef LSIF_DECLARE

}  // namespace lsif::cpu
