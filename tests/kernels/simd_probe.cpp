// Compiled once per instruction set, like csrc/kernels/cpu/variant.cpp.
#include "simd_probe.h"

#include "kernels/cpu/exp2_above.inl.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/topk_select.inl.h"

#define LSIF_STRING_(x) #x
#define LSIF_STRING(x) LSIF_STRING_(x)
#define LSIF_JOIN_(a, b) a##b
#define LSIF_JOIN(a, b) LSIF_JOIN_(a, b)

namespace lsif::cpu {
namespace LSIF_ISA {
namespace {

#if defined(LSIF_SIMD_SCALAR)
constexpr bool kFused = false;
#else
constexpr bool kFused = true;
#endif

template <typename Operation>
void map(const float* x, int64_t n, float* y, Operation operation) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, operation(load(x + i)));
  store_first(y + i, operation(load_first(x + i, n - i)), n - i);
}

void map_exp(const float* x, int64_t n, float* y) {
  map(x, n, y, [](Vec a) { return exp(a); });
}
void map_exp2(const float* x, int64_t n, float* y) {
  map(x, n, y, [](Vec a) { return exp2(a); });
}
void map_exp2_above(const float* x, int64_t n, float* y) {
  map(x, n, y, [](Vec a) { return exp2_above(a); });
}
void map_silu(const float* x, int64_t n, float* y) {
  map(x, n, y, [](Vec a) { return silu(a); });
}
template <int kTerms>
Vec gelu_of(const float (&q)[kTerms], float top, Vec z) {
  Vec one[1] = {z};
  gelu(q, top, one);
  return one[0];
}

void map_gelu(const float* x, int64_t n, float* y) {
  map(x, n, y, [](Vec a) { return gelu_of(kGelu, kGeluTop, a); });
}
void map_coarse_gelu(const float* x, int64_t n, float* y) {
  map(x, n, y, [](Vec a) { return gelu_of(kCoarseGelu, kCoarseGeluTop, a); });
}
void map_relu(const float* x, int64_t n, float* y) {
  map(x, n, y, [](Vec a) { return relu(a); });
}
void copy_first(const float* x, int64_t n, float* y) { store_first(y, load_first(x, n), n); }
void all_of_load_first(const float* x, int64_t n, float* lanes) { store(lanes, load_first(x, n)); }
void all_of_keep_first(const float* x, int64_t n, float* lanes) { store(lanes, keep_first(load(x), n, -1.0f)); }

void arithmetic(const float* a, const float* b, const float* c, float* out) {
  const Vec x = load(a);
  const Vec y = load(b);
  store(out, x + y);
  store(out + kLanes, x - y);
  store(out + 2 * kLanes, x * y);
  store(out + 3 * kLanes, x / y);
  store(out + 4 * kLanes, fma(x, y, load(c)));
  store(out + 5 * kLanes, max(x, y));
  store(out + 6 * kLanes, min(x, y));
}

void scaled(const float* a, const float* n, float* y) { store(y, scale_pow2(load(a), load(n))); }
void interleaved(const float* a, const float* b, float* low_high) {
  Vec low;
  Vec high;
  interleave(load(a), load(b), low, high);
  store(low_high, low);
  store(low_high + kLanes, high);
}

float sum_of_lanes(const float* x) { return sum_lanes(load(x)); }
float max_of_lanes(const float* x) { return max_lanes(load(x)); }

void select_largest_of(BoundedRow* rows, int64_t size, int64_t count) {
  static_assert(sizeof(BoundedRow) == sizeof(Candidate));
  select_largest(reinterpret_cast<Candidate*>(rows), size, count);
}

}  // namespace
}  // namespace LSIF_ISA

const SimdProbe& LSIF_JOIN(LSIF_ISA, _simd_probe)() {
  static constexpr SimdProbe probe = {
      LSIF_STRING(LSIF_ISA),       LSIF_ISA::kLanes,       LSIF_ISA::kFused,
      LSIF_ISA::map_exp,           LSIF_ISA::map_exp2,     LSIF_ISA::map_exp2_above,
      LSIF_ISA::map_silu,          LSIF_ISA::map_gelu,     LSIF_ISA::map_coarse_gelu,
      LSIF_ISA::map_relu,          LSIF_ISA::copy_first,   LSIF_ISA::all_of_load_first,
      LSIF_ISA::all_of_keep_first, LSIF_ISA::arithmetic,   LSIF_ISA::scaled,
      LSIF_ISA::interleaved,       LSIF_ISA::sum_of_lanes, LSIF_ISA::max_of_lanes,
      LSIF_ISA::select_largest_of,
  };
  return probe;
}

}  // namespace lsif::cpu
