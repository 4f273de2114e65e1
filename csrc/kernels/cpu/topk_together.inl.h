// Scoring rows in float32 for several queries together.
#pragma once

#include "kernels/cpu/float32_scores.inl.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// Queries that score rows together have interleaved vectors, [dim, kRowQueries]; so lanes are queries.
constexpr int kQueryVecs = static_cast<int>(kRowQueries) / kLanes;
constexpr int kChainRows = kLanes / 2;  // rows at a time: enough independent sums to hide their latency
constexpr int64_t kLeastQueries = 6;    // fewer are faster one by one,
constexpr int64_t kLeastRows = 32;      // as is a small number of rows

// Lane q of sums[v][r]: rows[r] . query v kLanes + q.
LSIF_INLINE void dot_queries(const float* queries, const float* const* rows, int64_t dim,
                             Vec (&sums)[kQueryVecs][kLanes]) {
#pragma GCC unroll 2
  for (int first = 0; first < kLanes; first += kChainRows) {
    const float* x[kChainRows];
    Vec sum[kChainRows][kQueryVecs];
    for (int r = 0; r < kChainRows; ++r) {
      x[r] = rows[first + r];
      for (int v = 0; v < kQueryVecs; ++v) sum[r][v] = broadcast(0.0f);
    }
    for (int64_t i = 0; i < dim; ++i) {
      Vec q[kQueryVecs];
      for (int v = 0; v < kQueryVecs; ++v) q[v] = load(queries + i * kRowQueries + v * kLanes);
      for (int r = 0; r < kChainRows; ++r) {
        const Vec value = broadcast(x[r][i]);
        for (int v = 0; v < kQueryVecs; ++v) sum[r][v] = fma(value, q[v], sum[r][v]);
      }
    }
    for (int r = 0; r < kChainRows; ++r) {
      for (int v = 0; v < kQueryVecs; ++v) sums[v][first + r] = sum[r][v];
    }
  }
}

// Scores of the first `count` of kLanes rows for up to kRowQueries queries.
__attribute__((noinline)) void score_together(const RowVectors& rows, int64_t count, const float* queries,
                                              int64_t num_queries, int64_t dim, float* scores, int64_t stride) {
  Vec sums[kQueryVecs][kLanes];
  dot_queries(queries, rows.vectors, dim, sums);
  const Vec bias = load(rows.bias);
  for (int v = 0; v < kQueryVecs; ++v) {
    transpose(sums[v]);
    for (int q = 0; q < kLanes && v * kLanes + q < num_queries; ++q) {
      store(scores + (v * kLanes + q) * stride, keep_first(sums[v][q] + bias, count, -HUGE_VALF));
    }
  }
}

inline void put_together(const TopkQuery* queries, int64_t num_queries, int64_t dim, float* together) {
  for (int64_t i = 0; i < dim; ++i) {
    for (int64_t q = 0; q < kRowQueries; ++q) {
      together[i * kRowQueries + q] = q < num_queries ? queries[q].vectors[i] : 0.0f;
    }
  }
}

// Sets scores[q, i] to the score of rows[i], up to rounding, and those past the last row, up to a full line, to
// -infinity. together: scratch for put_together().
inline void score_in_float32(const CatalogView& catalog, const int64_t* rows, int64_t num_rows,
                             const TopkQuery* queries, int64_t num_queries, float* scores, float* together) {
  const int64_t dim = catalog.dim;
  const int64_t stride = row_scores_stride(num_rows);
  const bool are_together = num_queries >= kLeastQueries && num_rows >= kLeastRows;
  if (are_together) put_together(queries, num_queries, dim, together);
  for (int64_t begin = 0; begin < stride; begin += kLanes) {
    RowVectors vectors;
    for (int r = 0; r < kLanes; ++r) vectors.set(catalog, r, rows[begin + r < num_rows ? begin + r : num_rows - 1]);
    for (int64_t i = begin + kRowsAhead; i < begin + kRowsAhead + kLanes && i < num_rows; ++i) {
      prefetch_row(catalog, rows[i]);
    }
    const Vec bias = load(vectors.bias);
    const int64_t left = begin < num_rows ? num_rows - begin : 0;
    const int64_t count = left < kLanes ? left : kLanes;
    if (are_together) {
      score_together(vectors, count, together, num_queries, dim, scores + begin, stride);
      continue;
    }
    for (int64_t q = 0; q < num_queries; ++q) {
      const Vec dots = dot_rows(queries[q].vectors, vectors.vectors, dim);
      store(scores + q * stride + begin, keep_first(dots + bias, count, -HUGE_VALF));
    }
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
