// Integer dot products of many rows of int8 codes with a few int8 vectors, for score_topk.inl.h. Codes lie in [-127,
// 127], rows are `stride` bytes apart, a multiple of 64. The sums are exact, so every ISA gives the same.
//
// Each ISA defines kVectorTile, kTileRows<kVectors> and dot_tile; the rest is shared.
#pragma once

#include <cstdint>

#if defined(LSIF_SIMD_AVX2) || defined(LSIF_SIMD_AVX512)
#include <immintrin.h>
#elif defined(LSIF_SIMD_NEON)
#include <arm_neon.h>
#endif

namespace lsif::cpu::LSIF_ISA {
namespace {

struct CodedVector {
  const int8_t* codes;
  int32_t sum;    // of the codes
  int32_t* dots;  // [num_rows], the result
};

#if defined(LSIF_SIMD_AVX2)

// Codes are widened to 16 bits: the sum of two products of _mm256_madd_epi16 is then exact.
inline __m256i load_widened(const int8_t* codes) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
}

// dots[i] = sum of the lanes of sums[i], i < 4.
inline void store_4_sums(const __m256i* sums, int32_t* dots) {
  const __m256i pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(dots),
                   _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1)));
}

constexpr int kVectorTile = 2;
template <int kVectors>
constexpr int kTileRows = kVectors == 1 ? 8 : 4;

template <int kVectors>
inline void dot_tile(const int8_t* rows, int64_t stride, const CodedVector* vectors, int64_t first) {
  constexpr int kRows = kTileRows<kVectors>;
  __m256i sums[kVectors][kRows];
  for (auto& of_vector : sums) {
    for (__m256i& sum : of_vector) sum = _mm256_setzero_si256();
  }
  for (int64_t i = 0; i < stride; i += 16) {
    __m256i vector[kVectors];
    for (int v = 0; v < kVectors; ++v) vector[v] = load_widened(vectors[v].codes + i);
    for (int r = 0; r < kRows; ++r) {
      const __m256i row = load_widened(rows + r * stride + i);
      for (int v = 0; v < kVectors; ++v) {
        sums[v][r] = _mm256_add_epi32(sums[v][r], _mm256_madd_epi16(row, vector[v]));
      }
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    for (int r = 0; r < kRows; r += 4) store_4_sums(sums[v] + r, vectors[v].dots + first + r);
  }
}

#elif defined(LSIF_SIMD_AVX512)

// Lane i of the result is the sum of the lanes of sums[i], i < 16.
inline __m512i reduce_16(const __m512i* sums) {
  __m512i pairs[8];
  for (int i = 0; i < 8; ++i) {
    pairs[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(sums[2 * i], sums[2 * i + 1]),
                                _mm512_unpackhi_epi32(sums[2 * i], sums[2 * i + 1]));
  }
  __m512i fours[4];
  for (int i = 0; i < 4; ++i) {
    fours[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(pairs[2 * i], pairs[2 * i + 1]),
                                _mm512_unpackhi_epi64(pairs[2 * i], pairs[2 * i + 1]));
  }
  __m512i eights[2];
  for (int i = 0; i < 2; ++i) {
    eights[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(fours[2 * i], fours[2 * i + 1], 0x44),
                                 _mm512_shuffle_i32x4(fours[2 * i], fours[2 * i + 1], 0xEE));
  }
  return _mm512_add_epi32(_mm512_shuffle_i32x4(eights[0], eights[1], 0x88),
                          _mm512_shuffle_i32x4(eights[0], eights[1], 0xDD));
}

constexpr int kVectorTile = 4;
template <int kVectors>
constexpr int kTileRows = 16 / kVectors;

// VNNI multiplies unsigned by signed: the row's codes are taken as c + 128, and 128 sum(p) is taken off again.
template <int kVectors>
inline void dot_tile(const int8_t* rows, int64_t stride, const CodedVector* vectors, int64_t first) {
  constexpr int kRows = kTileRows<kVectors>;
  const __m512i offset = _mm512_set1_epi8(-128);
  __m512i sums[16];
  for (int v = 0; v < kVectors; ++v) {
    for (int r = 0; r < kRows; ++r) sums[v * kRows + r] = _mm512_setzero_si512();
  }
  for (int64_t i = 0; i < stride; i += 64) {
    __m512i vector[kVectors];
    for (int v = 0; v < kVectors; ++v) vector[v] = _mm512_loadu_si512(vectors[v].codes + i);
    for (int r = 0; r < kRows; ++r) {
      const __m512i row = _mm512_xor_si512(_mm512_loadu_si512(rows + r * stride + i), offset);
      for (int v = 0; v < kVectors; ++v) {
        sums[v * kRows + r] = _mm512_dpbusd_epi32(sums[v * kRows + r], row, vector[v]);
      }
    }
  }
  alignas(64) int32_t totals[16];
  _mm512_store_si512(totals, reduce_16(sums));
  for (int v = 0; v < kVectors; ++v) {
    for (int r = 0; r < kRows; ++r) vectors[v].dots[first + r] = totals[v * kRows + r] - 128 * vectors[v].sum;
  }
}

#elif defined(LSIF_SIMD_NEON)

inline int32x4_t add_dot_16(int32x4_t sum, int8x16_t a, int8x16_t b) {
#if defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(sum, a, b);
#else
  // Two products of codes fit 16 bits: 2 * 127^2 < 2^15.
  return vpadalq_s16(sum, vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(b)), vget_high_s8(a), vget_high_s8(b)));
#endif
}

constexpr int kVectorTile = 2;
template <int kVectors>
constexpr int kTileRows = 8;

template <int kVectors>
inline void dot_tile(const int8_t* rows, int64_t stride, const CodedVector* vectors, int64_t first) {
  constexpr int kRows = kTileRows<kVectors>;
  int32x4_t sums[kVectors][kRows];
  for (auto& of_vector : sums) {
    for (int32x4_t& sum : of_vector) sum = vdupq_n_s32(0);
  }
  for (int64_t i = 0; i < stride; i += 16) {
    int8x16_t vector[kVectors];
    for (int v = 0; v < kVectors; ++v) vector[v] = vld1q_s8(vectors[v].codes + i);
    for (int r = 0; r < kRows; ++r) {
      const int8x16_t row = vld1q_s8(rows + r * stride + i);
      for (int v = 0; v < kVectors; ++v) sums[v][r] = add_dot_16(sums[v][r], row, vector[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    for (int r = 0; r < kRows; r += 4) {
      vst1q_s32(vectors[v].dots + first + r,
                vpaddq_s32(vpaddq_s32(sums[v][r], sums[v][r + 1]), vpaddq_s32(sums[v][r + 2], sums[v][r + 3])));
    }
  }
}

#else

constexpr int kVectorTile = 1;
template <int kVectors>
constexpr int kTileRows = 1;

template <int kVectors>
inline void dot_tile(const int8_t* row, int64_t stride, const CodedVector* vectors, int64_t first) {
  int32_t sum = 0;
  for (int64_t i = 0; i < stride; ++i) sum += static_cast<int32_t>(row[i]) * vectors[0].codes[i];
  vectors[0].dots[first] = sum;
}

#endif

template <int kVectors>
inline void dot_rows(const int8_t* rows, int64_t stride, int64_t num_rows, const CodedVector* vectors) {
  int64_t row = 0;
  for (; row + kTileRows<kVectors> <= num_rows; row += kTileRows<kVectors>) {
    dot_tile<kVectors>(rows + row * stride, stride, vectors, row);
  }
  for (; row < num_rows; ++row) {
    for (int v = 0; v < kVectors; ++v) {
      int32_t sum = 0;
      for (int64_t i = 0; i < stride; ++i) sum += static_cast<int32_t>(rows[row * stride + i]) * vectors[v].codes[i];
      vectors[v].dots[row] = sum;
    }
  }
}

// num_vectors <= kVectorTile.
inline void dot_rows(const int8_t* rows, int64_t stride, int64_t num_rows, const CodedVector* vectors,
                     int num_vectors) {
  if (num_vectors == kVectorTile) return dot_rows<kVectorTile>(rows, stride, num_rows, vectors);
  for (int v = 0; v < num_vectors; ++v) dot_rows<1>(rows, stride, num_rows, vectors + v);
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
