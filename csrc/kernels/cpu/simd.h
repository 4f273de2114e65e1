// Float32 vectors of the instruction set this variant is compiled for: Vec holds kLanes floats. The same few operations
// are implemented four times, chosen by LSIF_SIMD_AVX512, LSIF_SIMD_AVX2, LSIF_SIMD_NEON or LSIF_SIMD_SCALAR, which
// CMake defines for each variant. exp, silu and gelu are built from them for all variants.
//
// - load, store: kLanes floats, no alignment needed
// - load_first, store_first: access only the first n (0 <= n <= kLanes) lanes in memory; the other lanes load as 0
// - keep_first: the first n lanes of a, `fill` in the others
// - fma(a, b, c): a * b + c, rounded once if the ISA supports it (all but scalar)
// - max, min: if either argument is NaN, the second one on x86 and scalar, NaN on NEON
// - scale_pow2(a, n): a * 2^n for an integer n in [-252, 254]
// - lower_halves, upper_halves: floats whose upper 16 bits are the lower, or upper, ones of a's lanes; the rest is 0
// - interleave: low and high become a0 b0 a1 b1 ..
#pragma once

#include <cstdint>

#if defined(LSIF_SIMD_AVX512)
#if !defined(LSIF_EMULATE_AVX512)  // the tests' emulation provides its own intrinsics
// GCC 12's header initialises "undefined" registers with themselves and warns about it wherever that is inlined.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif
#elif defined(LSIF_SIMD_AVX2)
#include <immintrin.h>
#elif defined(LSIF_SIMD_NEON)
#include <arm_neon.h>
#elif !defined(LSIF_SIMD_SCALAR)
#error "Define one of LSIF_SIMD_AVX512, LSIF_SIMD_AVX2, LSIF_SIMD_NEON, LSIF_SIMD_SCALAR"
#endif

#define LSIF_INLINE inline __attribute__((always_inline))

namespace lsif::cpu::LSIF_ISA {
namespace {

// std::min and std::max must not be used here (variant.cpp).
LSIF_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
LSIF_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Adding 1.5 * 2^23 rounds a small float to an integer, which is then in the low bits of the sum.
inline constexpr float kShift = 12582912.0f;

#if defined(LSIF_SIMD_AVX512)

inline constexpr int kLanes = 16;
inline constexpr int kRegisters = 32;
struct Vec {
  __m512 v;
};

LSIF_INLINE __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
LSIF_INLINE Vec broadcast(float a) { return {_mm512_set1_ps(a)}; }
LSIF_INLINE Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
LSIF_INLINE void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
LSIF_INLINE Vec load_first(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
LSIF_INLINE void store_first(float* p, Vec a, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), a.v); }
LSIF_INLINE Vec keep_first(Vec a, int64_t n, float fill) {
  return {_mm512_mask_blend_ps(first_lanes(n), _mm512_set1_ps(fill), a.v)};
}
LSIF_INLINE Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
LSIF_INLINE Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
LSIF_INLINE Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
LSIF_INLINE Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
LSIF_INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
LSIF_INLINE Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
LSIF_INLINE Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
LSIF_INLINE Vec scale_pow2(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }
LSIF_INLINE Vec lower_halves(Vec a) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 16))}; }
LSIF_INLINE Vec upper_halves(Vec a) {
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(-0x10000)))};
}
LSIF_INLINE void interleave(Vec a, Vec b, Vec& low, Vec& high) {
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i second = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  low = {_mm512_permutex2var_ps(a.v, first, b.v)};
  high = {_mm512_permutex2var_ps(a.v, second, b.v)};
}

#elif defined(LSIF_SIMD_AVX2)

inline constexpr int kLanes = 8;
inline constexpr int kRegisters = 16;
struct Vec {
  __m256 v;
};

LSIF_INLINE __m256i first_lanes(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
LSIF_INLINE Vec broadcast(float a) { return {_mm256_set1_ps(a)}; }
LSIF_INLINE Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
LSIF_INLINE void store(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }
LSIF_INLINE Vec load_first(const float* p, int64_t n) { return {_mm256_maskload_ps(p, first_lanes(n))}; }
LSIF_INLINE void store_first(float* p, Vec a, int64_t n) { _mm256_maskstore_ps(p, first_lanes(n), a.v); }
LSIF_INLINE Vec keep_first(Vec a, int64_t n, float fill) {
  return {_mm256_blendv_ps(_mm256_set1_ps(fill), a.v, _mm256_castsi256_ps(first_lanes(n)))};
}
LSIF_INLINE Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
LSIF_INLINE Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
LSIF_INLINE Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
LSIF_INLINE Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
LSIF_INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
LSIF_INLINE Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
LSIF_INLINE Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
LSIF_INLINE Vec shifted_pow2(Vec t) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(t.v), 23);
  return {_mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(0x3F800000)))};
}
LSIF_INLINE Vec lower_halves(Vec a) { return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.v), 16))}; }
LSIF_INLINE Vec upper_halves(Vec a) {
  return {_mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(a.v), _mm256_set1_epi32(-0x10000)))};
}
LSIF_INLINE void interleave(Vec a, Vec b, Vec& low, Vec& high) {
  const __m256 even = _mm256_unpacklo_ps(a.v, b.v);
  const __m256 odd = _mm256_unpackhi_ps(a.v, b.v);
  low = {_mm256_permute2f128_ps(even, odd, 0x20)};
  high = {_mm256_permute2f128_ps(even, odd, 0x31)};
}

#elif defined(LSIF_SIMD_NEON)

inline constexpr int kLanes = 4;
inline constexpr int kRegisters = 32;
struct Vec {
  float32x4_t v;
};

LSIF_INLINE Vec broadcast(float a) { return {vdupq_n_f32(a)}; }
LSIF_INLINE Vec load(const float* p) { return {vld1q_f32(p)}; }
LSIF_INLINE void store(float* p, Vec a) { vst1q_f32(p, a.v); }
LSIF_INLINE Vec load_first(const float* p, int64_t n) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
LSIF_INLINE void store_first(float* p, Vec a, int64_t n) {
  float lanes[kLanes];
  store(lanes, a);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}
LSIF_INLINE Vec keep_first(Vec a, int64_t n, float fill) {
  constexpr uint32_t kIndex[kLanes] = {0, 1, 2, 3};
  const uint32x4_t kept = vcltq_u32(vld1q_u32(kIndex), vdupq_n_u32(static_cast<uint32_t>(n)));
  return {vbslq_f32(kept, a.v, vdupq_n_f32(fill))};
}
LSIF_INLINE Vec operator+(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
LSIF_INLINE Vec operator-(Vec a, Vec b) { return {vsubq_f32(a.v, b.v)}; }
LSIF_INLINE Vec operator*(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
LSIF_INLINE Vec operator/(Vec a, Vec b) { return {vdivq_f32(a.v, b.v)}; }
LSIF_INLINE Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
LSIF_INLINE Vec max(Vec a, Vec b) { return {vmaxq_f32(a.v, b.v)}; }
LSIF_INLINE Vec min(Vec a, Vec b) { return {vminq_f32(a.v, b.v)}; }
LSIF_INLINE Vec shifted_pow2(Vec t) {
  const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(t.v), 23);
  return {vreinterpretq_f32_u32(vaddq_u32(exponent, vdupq_n_u32(0x3F800000)))};
}
LSIF_INLINE Vec lower_halves(Vec a) { return {vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a.v), 16))}; }
LSIF_INLINE Vec upper_halves(Vec a) {
  return {vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a.v), vdupq_n_u32(0xFFFF0000)))};
}
LSIF_INLINE void interleave(Vec a, Vec b, Vec& low, Vec& high) {
  low = {vzip1q_f32(a.v, b.v)};
  high = {vzip2q_f32(a.v, b.v)};
}

#else  // LSIF_SIMD_SCALAR: the compiler's vector extension, which it maps to the target's baseline ISA

inline constexpr int kLanes = 4;
inline constexpr int kRegisters = 16;
typedef float FloatLanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef uint32_t BitLanes __attribute__((vector_size(kLanes * sizeof(uint32_t))));
struct Vec {
  FloatLanes v;
};

LSIF_INLINE Vec broadcast(float a) { return {FloatLanes{a, a, a, a}}; }
LSIF_INLINE Vec load(const float* p) {
  Vec a;
  __builtin_memcpy(&a.v, p, sizeof(a.v));
  return a;
}
LSIF_INLINE void store(float* p, Vec a) { __builtin_memcpy(p, &a.v, sizeof(a.v)); }
LSIF_INLINE Vec load_first(const float* p, int64_t n) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
LSIF_INLINE void store_first(float* p, Vec a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = a.v[i];
}
LSIF_INLINE Vec keep_first(Vec a, int64_t n, float fill) {
  for (int64_t i = n; i < kLanes; ++i) a.v[i] = fill;
  return a;
}
LSIF_INLINE Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
LSIF_INLINE Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
LSIF_INLINE Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
LSIF_INLINE Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
LSIF_INLINE Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
LSIF_INLINE Vec max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }
LSIF_INLINE Vec min(Vec a, Vec b) { return {a.v < b.v ? a.v : b.v}; }
LSIF_INLINE Vec shifted_pow2(Vec t) { return {(FloatLanes)(((BitLanes)t.v << 23) + 0x3F800000u)}; }
LSIF_INLINE Vec lower_halves(Vec a) { return {(FloatLanes)((BitLanes)a.v << 16)}; }
LSIF_INLINE Vec upper_halves(Vec a) { return {(FloatLanes)((BitLanes)a.v & 0xFFFF0000u)}; }
LSIF_INLINE void interleave(Vec a, Vec b, Vec& low, Vec& high) {
  low = {FloatLanes{a.v[0], b.v[0], a.v[1], b.v[1]}};
  high = {FloatLanes{a.v[2], b.v[2], a.v[3], b.v[3]}};
}

#endif

#if !defined(LSIF_SIMD_AVX512)
// In two steps, because 2^n may be out of range when the result is not.
LSIF_INLINE Vec scale_pow2(Vec a, Vec n) {
  const Vec half = fma(n, broadcast(0.5f), broadcast(kShift));
  const Vec rest = (n - (half - broadcast(kShift))) + broadcast(kShift);
  return a * shifted_pow2(half) * shifted_pow2(rest);
}
#endif

// Transposes a block of kLanes x kLanes by interleaving rows i and i + kLanes / 2, log2(kLanes) times.
LSIF_INLINE void transpose(Vec (&rows)[kLanes]) {
  for (int done = 1; done < kLanes; done *= 2) {
    Vec mixed[kLanes];
    for (int i = 0; i < kLanes / 2; ++i) interleave(rows[i], rows[i + kLanes / 2], mixed[2 * i], mixed[2 * i + 1]);
    for (int i = 0; i < kLanes; ++i) rows[i] = mixed[i];
  }
}

// Sum and maximum over the lanes: halves are combined repeatedly, so the order depends only on kLanes.
#if defined(LSIF_SIMD_AVX512) || defined(LSIF_SIMD_AVX2)
struct Sum {
  LSIF_INLINE __m256 operator()(__m256 a, __m256 b) const { return _mm256_add_ps(a, b); }
  LSIF_INLINE __m128 operator()(__m128 a, __m128 b) const { return _mm_add_ps(a, b); }
};
struct Maximum {
  LSIF_INLINE __m256 operator()(__m256 a, __m256 b) const { return _mm256_max_ps(a, b); }
  LSIF_INLINE __m128 operator()(__m128 a, __m128 b) const { return _mm_max_ps(a, b); }
};
template <typename Operation>
LSIF_INLINE float fold_lanes(Vec a, Operation operation) {
#if defined(LSIF_SIMD_AVX512)
  const __m256 upper = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.v), 1));
  const __m256 eight = operation(_mm512_castps512_ps256(a.v), upper);
#else
  const __m256 eight = a.v;
#endif
  const __m128 four = operation(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = operation(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(operation(two, _mm_shuffle_ps(two, two, 1)));
}
#else
struct Sum {
  LSIF_INLINE float operator()(float a, float b) const { return a + b; }
};
struct Maximum {
  LSIF_INLINE float operator()(float a, float b) const { return a > b ? a : b; }
};
template <typename Operation>
LSIF_INLINE float fold_lanes(Vec a, Operation operation) {
  float lanes[kLanes];
  store(lanes, a);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] = operation(lanes[i], lanes[i + half]);
  }
  return lanes[0];
}
#endif
LSIF_INLINE float sum_lanes(Vec a) { return fold_lanes(a, Sum()); }
LSIF_INLINE float max_lanes(Vec a) { return fold_lanes(a, Maximum()); }

// e^x. Error at most 2 ulp if the result is a normal number, with one more rounding if it is subnormal; +inf above
// 88.73, 0 below -104; NaN stays NaN. x = n ln 2 + r with |r| <= 0.35, e^r = 1 + r + r^2 p(r), p a minimax fit
// (3.3e-9). ln 2 is split so that n times its first part is exact even without fma.
LSIF_INLINE Vec exp(Vec x) {
  x = max(broadcast(-105.0f), min(broadcast(89.0f), x));
  const Vec n = fma(x, broadcast(1.44269504f), broadcast(kShift)) - broadcast(kShift);
  const Vec r = fma(n, broadcast(2.12194440e-4f), fma(n, broadcast(-0.693359375f), x));
  Vec p = broadcast(0.00138131587f);
  p = fma(p, r, broadcast(0.00836941134f));
  p = fma(p, r, broadcast(0.041668456f));
  p = fma(p, r, broadcast(0.166665152f));
  p = fma(p, r, broadcast(0.49999994f));
  p = fma(p, r * r, r) + broadcast(1.0f);
  return scale_pow2(p, n);
}

// 2^x up to x = 127. Error at most 1.25 ulp if the result is a normal number, with one more rounding if it is
// subnormal; 0 below -151; NaN stays NaN. x = n + r with |r| <= 0.5, 2^r = 1 + r p(r), p a minimax fit (2e-9).
LSIF_INLINE Vec exp2(Vec x) {
  x = max(broadcast(-152.0f), x);
  const Vec n = (x + broadcast(kShift)) - broadcast(kShift);
  const Vec r = x - n;
  Vec p = broadcast(0.00015353362f);
  p = fma(p, r, broadcast(0.00133988739f));
  p = fma(p, r, broadcast(0.00961843692f));
  p = fma(p, r, broadcast(0.0555033237f));
  p = fma(p, r, broadcast(0.240226477f));
  p = fma(p, r, broadcast(0.693147182f));
  return scale_pow2(fma(p, r, broadcast(1.0f)), n);
}

LSIF_INLINE Vec relu(Vec z) { return max(broadcast(0.0f), z); }

// z / (1 + e^-z), relative error at most 2^-21 (4 ulp); 0 where e^-z overflows (z < -88.72; the value is below 3e-37).
LSIF_INLINE Vec silu(Vec z) { return z / (broadcast(1.0f) + exp(broadcast(0.0f) - z)); }

// z Phi(z) = max(z, 0) - a Q(a), where a = min(|z|, top) and Q(a) = Phi(-a) is a polynomial in t = 2 a / top - 1,
// highest power first (minimax fit). Handles several vectors at once to hide the latency of their multiply-add chains.
template <int kTerms, int kCount>
LSIF_INLINE void gelu(const float (&q)[kTerms], float top, Vec (&z)[kCount]) {
  Vec minus_a[kCount], t[kCount], p[kCount];
  for (int v = 0; v < kCount; ++v) {
    minus_a[v] = max(broadcast(-top), min(broadcast(0.0f) - z[v], z[v]));
    t[v] = fma(minus_a[v], broadcast(-2 / top), broadcast(-1.0f));
    p[v] = broadcast(q[0]);
  }
  for (int i = 1; i < kTerms; ++i) {
    for (int v = 0; v < kCount; ++v) p[v] = fma(p[v], t[v], broadcast(q[i]));
  }
  for (int v = 0; v < kCount; ++v) z[v] = fma(minus_a[v], p[v], max(broadcast(0.0f), z[v]));
}

// Q to within 5.9e-8 up to a = 5.25, where a Q(a) is 4e-7. Error at most 4 * 2^-24 min(|z|, 5.25) + 2^-24 |result|.
inline constexpr float kGeluTop = 5.25f;
inline constexpr float kGelu[] = {-0.003956181f,  0.00587687083f, 0.0175541993f,  -0.0377164595f,
                                  -0.0167404544f, 0.0987305567f,  -0.0632519647f, -0.0957532898f,
                                  0.196736038f,   -0.0976565108f, -0.120998129f,  0.257110655f,
                                  -0.22594215f,   0.115075707f,   -0.0334012732f, 0.0043324572f};

// For results that are then rounded to 8 bits. Error at most 1.25 * 2^-13 min(|z|, 1) + 2^-24 |result|.
inline constexpr float kCoarseGeluTop = 4.25f;
inline constexpr float kCoarseGelu[] = {0.0197676159f, -0.00163226842f, -0.09330612f, 0.0798597261f, 0.10502214f,
                                        -0.239786729f, 0.20172973f,     -0.08837436f, 0.0167542156f};

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
