// Integer dot products of groups of 16 rows of 4-bit codes (kernels/score_topk.h) with int8 vectors, for
// score_topk.inl.h. The sums are exact, so all ISAs give the same results. Each ISA defines
//
//   Dots                  one int32 per row of a group
//   dot_tile              dots[v][g]: group g of kGroups, group_stride bytes apart, times vector v of kVectors
//   to_floats             Dots as GroupFloats, rounded to nearest
//   load_bytes            16 unsigned bytes as GroupFloats
//   not_below(a, b)       bit i of the result: !(a_i < b_i), so also set if either is NaN
//   append_candidates     writes {upper_i, first_row + i} for each bit i of mask, NaN as infinity, and returns their
//                         number; may overwrite up to 16 more candidates
//
// dot_tile multiplies the codes as stored, c + 8; the sum begins with `start`, which subtracts 8 sum(p). It also
// prefetches the lines that are `ahead` bytes further on.
#pragma once

#include <math.h>

#include "kernels/cpu/simd.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// The part of a vector that dot_tile needs.
struct CodedVector {
  const int8_t* codes;  // [query_stride(dim)]
  int32_t start;        // -kCodeOffset * sum of the codes
};

inline constexpr int kVecs = kGroupRows / kLanes;  // vectors per group
struct GroupFloats {
  Vec v[kVecs];
};

// A row that may be among the k best. Rows are numbered from the first row of the scan.
struct Candidate {
  float upper;  // upper bound of its score, in the scan's unit; not NaN
  uint32_t row;
};

LSIF_INLINE int32_t load_4_codes(const int8_t* codes) {
  int32_t four;
  __builtin_memcpy(&four, codes, sizeof(four));
  return four;
}

#if defined(LSIF_SIMD_AVX512)

inline constexpr int kMaxTileVectors = 8;
template <int kVectors>
inline constexpr int kTileGroups = kVectors == 8 ? 2 : 4;

struct Dots {
  __m512i v;
};

template <typename Vector, int kVectors, int kGroups>
LSIF_INLINE void dot_tile(const uint8_t* lines, int64_t group_stride, int64_t num_lines, int64_t ahead,
                          const Vector* vectors, Dots (&dots)[kVectors][kGroups]) {
  // A single chain of sums would be limited by latency, so the high halves have their own.
  constexpr int kChains = kVectors * kGroups == 1 ? 2 : 1;
  const __m512i mask = _mm512_set1_epi8(15);
  __m512i sums[kVectors][kGroups];
  __m512i second = _mm512_setzero_si512();
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) sums[v][g] = _mm512_set1_epi32(vectors[v].start);
  }
  for (int64_t i = 0; i < num_lines; ++i) {
    __m512i low[kGroups];
    __m512i high[kGroups];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      const uint8_t* line = lines + g * group_stride + i * kLineBytes;
      __builtin_prefetch(line + ahead);
      const __m512i codes = _mm512_loadu_si512(line);
      low[g] = _mm512_and_si512(codes, mask);
      high[g] = _mm512_and_si512(_mm512_srli_epi16(codes, 4), mask);
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const int8_t* codes = vectors[v].codes + i * kLineDims;
      const __m512i with_low = _mm512_set1_epi32(load_4_codes(codes));
      const __m512i with_high = _mm512_set1_epi32(load_4_codes(codes + 4));
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) {
        sums[v][g] = _mm512_dpbusd_epi32(sums[v][g], low[g], with_low);
        __m512i& with_rest = kChains == 2 ? second : sums[v][g];
        with_rest = _mm512_dpbusd_epi32(with_rest, high[g], with_high);
      }
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) dots[v][g].v = kChains == 2 ? _mm512_add_epi32(sums[v][g], second) : sums[v][g];
  }
}

LSIF_INLINE GroupFloats to_floats(Dots dots) { return {{{_mm512_cvtepi32_ps(dots.v)}}}; }

LSIF_INLINE GroupFloats load_bytes(const uint8_t* bytes) {
  const __m128i loaded = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  return {{{_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(loaded))}}};
}

LSIF_INLINE uint32_t not_below(GroupFloats a, Vec b) { return _mm512_cmp_ps_mask(a.v[0].v, b.v, _CMP_NLT_UQ); }

LSIF_INLINE int64_t append_candidates(Candidate* end, GroupFloats upper, uint32_t first_row, uint32_t mask) {
  const auto kept = static_cast<__mmask16>(mask);
  const __mmask16 not_numbers = _mm512_cmp_ps_mask(upper.v[0].v, upper.v[0].v, _CMP_UNORD_Q);
  const __m512 bounds = _mm512_mask_mov_ps(upper.v[0].v, not_numbers, _mm512_set1_ps(HUGE_VALF));
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i uppers = _mm512_maskz_compress_epi32(kept, _mm512_castps_si512(bounds));
  const __m512i rows =
      _mm512_maskz_compress_epi32(kept, _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int32_t>(first_row))));
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  _mm512_storeu_si512(end, _mm512_permutex2var_epi32(uppers, low, rows));
  _mm512_storeu_si512(end + 8, _mm512_permutex2var_epi32(uppers, high, rows));
  return __builtin_popcount(mask);
}

#elif defined(LSIF_SIMD_AVX2)

inline constexpr int kMaxTileVectors = 4;
template <int kVectors>
inline constexpr int kTileGroups = 1;

struct Dots {
  __m256i v[2];
};

LSIF_INLINE __m256i load_line_half(const uint8_t* line) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line));
}

#if defined(LSIF_SIMD_AVX2VNNI)

template <typename Vector, int kVectors, int kGroups>
LSIF_INLINE void dot_tile(const uint8_t* lines, int64_t group_stride, int64_t num_lines, int64_t ahead,
                          const Vector* vectors, Dots (&dots)[kVectors][kGroups]) {
  static_assert(kGroups == 1);
  (void)group_stride;
  constexpr int kChains = kVectors == 1 ? 2 : 1;  // as for AVX-512
  const __m256i mask = _mm256_set1_epi8(15);
  __m256i sums[kVectors][2];
  __m256i second[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int v = 0; v < kVectors; ++v) sums[v][0] = sums[v][1] = _mm256_set1_epi32(vectors[v].start);
  for (int64_t i = 0; i < num_lines; ++i) {
    const uint8_t* line = lines + i * kLineBytes;
    __builtin_prefetch(line + ahead);
    __m256i low[2];
    __m256i high[2];
    for (int half = 0; half < 2; ++half) {
      const __m256i codes = load_line_half(line + half * 32);
      low[half] = _mm256_and_si256(codes, mask);
      high[half] = _mm256_and_si256(_mm256_srli_epi16(codes, 4), mask);
    }
    for (int v = 0; v < kVectors; ++v) {
      const int8_t* codes = vectors[v].codes + i * kLineDims;
      const __m256i with_low = _mm256_set1_epi32(load_4_codes(codes));
      const __m256i with_high = _mm256_set1_epi32(load_4_codes(codes + 4));
      for (int half = 0; half < 2; ++half) {
        sums[v][half] = _mm256_dpbusd_avx_epi32(sums[v][half], low[half], with_low);
        __m256i& with_rest = kChains == 2 ? second[half] : sums[v][half];
        with_rest = _mm256_dpbusd_avx_epi32(with_rest, high[half], with_high);
      }
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    for (int half = 0; half < 2; ++half) dots[v][0].v[half] = _mm256_add_epi32(sums[v][half], second[half]);
  }
}

#else

// A 16-bit sum can hold 8 products of pairs, as 8 * 2 * 15 * 127 < 2^15; that is four lines.
inline constexpr int64_t kShortLines = 4;

template <typename Vector, int kVectors, int kGroups>
LSIF_INLINE void dot_tile(const uint8_t* lines, int64_t group_stride, int64_t num_lines, int64_t ahead,
                          const Vector* vectors, Dots (&dots)[kVectors][kGroups]) {
  static_assert(kGroups == 1);
  (void)group_stride;
  const __m256i mask = _mm256_set1_epi8(15);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* halves = lines + half * 32;
    __m256i sums[kVectors];
    for (int v = 0; v < kVectors; ++v) sums[v] = _mm256_set1_epi32(vectors[v].start);
    for (int64_t begin = 0; begin < num_lines; begin += kShortLines) {
      const int64_t end = begin + kShortLines < num_lines ? begin + kShortLines : num_lines;
      __m256i shorts[kVectors];
      for (int v = 0; v < kVectors; ++v) shorts[v] = _mm256_setzero_si256();
      for (int64_t i = begin; i < end; ++i) {
        const uint8_t* line = halves + i * kLineBytes;
        if (half == 0) __builtin_prefetch(line + ahead);
        const __m256i codes = load_line_half(line);
        const __m256i low = _mm256_and_si256(codes, mask);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(codes, 4), mask);
        for (int v = 0; v < kVectors; ++v) {
          const int8_t* of_vector = vectors[v].codes + i * kLineDims;
          const __m256i with_low = _mm256_maddubs_epi16(low, _mm256_set1_epi32(load_4_codes(of_vector)));
          const __m256i with_high = _mm256_maddubs_epi16(high, _mm256_set1_epi32(load_4_codes(of_vector + 4)));
          shorts[v] = _mm256_add_epi16(shorts[v], _mm256_add_epi16(with_low, with_high));
        }
      }
      for (int v = 0; v < kVectors; ++v) sums[v] = _mm256_add_epi32(sums[v], _mm256_madd_epi16(shorts[v], ones));
    }
    for (int v = 0; v < kVectors; ++v) dots[v][0].v[half] = sums[v];
  }
}

#endif

LSIF_INLINE GroupFloats to_floats(Dots dots) {
  return {{{_mm256_cvtepi32_ps(dots.v[0])}, {_mm256_cvtepi32_ps(dots.v[1])}}};
}

LSIF_INLINE GroupFloats load_bytes(const uint8_t* bytes) {
  GroupFloats floats;
  for (int i = 0; i < kVecs; ++i) {
    const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes + i * kLanes));
    floats.v[i].v = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight));
  }
  return floats;
}

LSIF_INLINE uint32_t not_below(GroupFloats a, Vec b) {
  const int low = _mm256_movemask_ps(_mm256_cmp_ps(a.v[0].v, b.v, _CMP_NLT_UQ));
  const int high = _mm256_movemask_ps(_mm256_cmp_ps(a.v[1].v, b.v, _CMP_NLT_UQ));
  return static_cast<uint32_t>(low | high << 8);
}

#elif defined(LSIF_SIMD_NEON)

inline constexpr int kMaxTileVectors = 4;
template <int kVectors>
inline constexpr int kTileGroups = 1;

struct Dots {
  int32x4_t v[4];
};

// Codes of 4 rows, 4 dimensions each, times the same 4 codes of a vector: [row 0, row 0, row 1, row 1] and so on. The
// sum of two products fits 16 bits.
struct PairSums {
  int32x4_t first;
  int32x4_t second;
};

LSIF_INLINE void add_products(PairSums& sums, int8x16_t low, int8x16_t high, const int8_t* codes) {
  const int8x8_t with_low = vreinterpret_s8_s32(vdup_n_s32(load_4_codes(codes)));
  const int8x8_t with_high = vreinterpret_s8_s32(vdup_n_s32(load_4_codes(codes + 4)));
  sums.first = vpadalq_s16(sums.first, vmlal_s8(vmull_s8(vget_low_s8(low), with_low), vget_low_s8(high), with_high));
  sums.second =
      vpadalq_s16(sums.second, vmlal_s8(vmull_s8(vget_high_s8(low), with_low), vget_high_s8(high), with_high));
}

template <typename Vector, int kVectors, int kGroups>
LSIF_INLINE void dot_tile(const uint8_t* lines, int64_t group_stride, int64_t num_lines, int64_t ahead,
                          const Vector* vectors, Dots (&dots)[kVectors][kGroups]) {
  static_assert(kGroups == 1);
  (void)group_stride;
  for (int quarter = 0; quarter < 4; ++quarter) {
    PairSums sums[kVectors];
    for (int v = 0; v < kVectors; ++v) sums[v] = {vdupq_n_s32(0), vdupq_n_s32(0)};
    for (int64_t i = 0; i < num_lines; ++i) {
      const uint8_t* line = lines + i * kLineBytes;
      if (quarter == 0) __builtin_prefetch(line + ahead);
      const uint8x16_t codes = vld1q_u8(line + quarter * 16);
      const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(15)));
      const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(codes, 4));
      for (int v = 0; v < kVectors; ++v) add_products(sums[v], low, high, vectors[v].codes + i * kLineDims);
    }
    for (int v = 0; v < kVectors; ++v) {
      dots[v][0].v[quarter] = vaddq_s32(vdupq_n_s32(vectors[v].start), vpaddq_s32(sums[v].first, sums[v].second));
    }
  }
}

LSIF_INLINE GroupFloats to_floats(Dots dots) {
  GroupFloats floats;
  for (int i = 0; i < 4; ++i) floats.v[i].v = vcvtq_f32_s32(dots.v[i]);
  return floats;
}

LSIF_INLINE GroupFloats load_bytes(const uint8_t* bytes) {
  const uint8x16_t loaded = vld1q_u8(bytes);
  const uint16x8_t low = vmovl_u8(vget_low_u8(loaded));
  const uint16x8_t high = vmovl_u8(vget_high_u8(loaded));
  GroupFloats floats;
  floats.v[0].v = vcvtq_f32_u32(vmovl_u16(vget_low_u16(low)));
  floats.v[1].v = vcvtq_f32_u32(vmovl_u16(vget_high_u16(low)));
  floats.v[2].v = vcvtq_f32_u32(vmovl_u16(vget_low_u16(high)));
  floats.v[3].v = vcvtq_f32_u32(vmovl_u16(vget_high_u16(high)));
  return floats;
}

LSIF_INLINE uint32_t not_below(GroupFloats a, Vec b) {
  constexpr uint32_t kBits[4] = {1, 2, 4, 8};
  uint32_t mask = 0;
  for (int i = 0; i < 4; ++i) {
    mask |= vaddvq_u32(vandq_u32(vmvnq_u32(vcltq_f32(a.v[i].v, b.v)), vld1q_u32(kBits))) << (4 * i);
  }
  return mask;
}

#else

inline constexpr int kMaxTileVectors = 1;
template <int kVectors>
inline constexpr int kTileGroups = 1;

struct Dots {
  int32_t v[kGroupRows];
};

template <typename Vector, int kVectors, int kGroups>
inline void dot_tile(const uint8_t* lines, int64_t, int64_t num_lines, int64_t, const Vector* vectors,
                     Dots (&dots)[kVectors][kGroups]) {
  static_assert(kVectors == 1 && kGroups == 1);
  int32_t* sums = dots[0][0].v;
  for (int64_t r = 0; r < kGroupRows; ++r) sums[r] = vectors[0].start;
  for (int64_t i = 0; i < num_lines; ++i) {
    const int8_t* codes = vectors[0].codes + i * kLineDims;
    for (int64_t r = 0; r < kGroupRows; ++r) {
      const uint8_t* bytes = lines + i * kLineBytes + r * 4;
      for (int64_t j = 0; j < 4; ++j) sums[r] += (bytes[j] & 15) * codes[j] + (bytes[j] >> 4) * codes[4 + j];
    }
  }
}

inline GroupFloats to_floats(Dots dots) {
  GroupFloats floats;
  for (int64_t r = 0; r < kGroupRows; ++r) floats.v[r / kLanes].v[r % kLanes] = static_cast<float>(dots.v[r]);
  return floats;
}

inline GroupFloats load_bytes(const uint8_t* bytes) {
  GroupFloats floats;
  for (int64_t r = 0; r < kGroupRows; ++r) floats.v[r / kLanes].v[r % kLanes] = static_cast<float>(bytes[r]);
  return floats;
}

inline uint32_t not_below(GroupFloats a, Vec b) {
  uint32_t mask = 0;
  for (int64_t r = 0; r < kGroupRows; ++r) {
    mask |= a.v[r / kLanes].v[r % kLanes] < b.v[0] ? 0u : 1u << r;
  }
  return mask;
}

#endif

#if !defined(LSIF_SIMD_AVX512)
inline int64_t append_candidates(Candidate* end, GroupFloats upper, uint32_t first_row, uint32_t mask) {
  float values[kGroupRows];
  for (int i = 0; i < kVecs; ++i) store(values + i * kLanes, upper.v[i]);
  int64_t size = 0;
  for (; mask != 0; mask &= mask - 1) {
    const auto r = static_cast<uint32_t>(__builtin_ctz(mask));
    end[size++] = {values[r] == values[r] ? values[r] : HUGE_VALF, first_row + r};
  }
  return size;
}
#endif

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
