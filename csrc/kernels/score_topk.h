// Exact top-K of a catalogue by inner product, at the cost of an integer scan             (docs/score_topk.md)
//
//   score(x, b) = q . x + b                                        one interest
//   score(x, b) = tau log sum_j w_j exp(q_j . x / tau) + b         several interests, sum_j w_j = 1
//
// Contract: the k best of the rows scanned, ordered by (score descending, row ascending), where score is the float64
// value of the formula on the float32 inputs, summed in an order fixed by `dim` alone and rounded once to float32. So
// the result is the same on every ISA, for every batch, thread count and block size.
//
// How: row i is stored as int8 codes c_i with scale s_i, and with upper bounds of its error |x_i - s_i c_i| and norm
// |s_i c_i|. A query is coded the same way (codes p, scale t, error, norm). Then (Cauchy-Schwarz)
//
//   |q.x - t s p.c| <= |q - t p| |s c| + |q| |x - s c|
//
// An integer pass computes p.c for all rows; rows whose upper bound stays below the running K-th best exact score are
// dropped, the few others are scored exactly on the spot. For several interests the score is bounded by
// min(max_j u_j + tau log sum_j w_j, max_j (u_j + tau log w_j) + tau log M) with u_j the bound of q_j . x.
// All bounds are rounded outwards; a row that is above the running K-th best is never dropped by its bound.
#pragma once

#include "kernels/types.h"

namespace lsif {

// Codes are padded with zeros to a multiple of this many dimensions, and rows of codes are aligned to as many bytes.
inline constexpr int64_t kCodeAlign = 64;

// What the integer pass and the slack of the bounds are made for.
inline constexpr int64_t kMaxScoreDim = 65536;
inline constexpr int64_t kMaxScoreInterests = 256;

constexpr int64_t code_stride(int64_t dim) { return (dim + kCodeAlign - 1) / kCodeAlign * kCodeAlign; }

// A catalogue: the exact rows and their codes. All finite. docs/score_topk.md says how codes are made.
struct CatalogView {
  const float* vectors;  // [num_items, dim]
  const float* bias;     // [num_items], or null: zero
  const int8_t* codes;   // [num_items, code_stride(dim)], in [-127, 127]
  const float* scales;   // [num_items], 0 or a normal number
  const float* errors;   // [num_items], >= |x - s c|
  const float* norms;    // [num_items], >= |s c|
  int64_t num_items;
  int64_t dim;
};

// The users' side of a score. Without weights num_interests must be 1 and score = q . x + b; with weights it is
// temperature * log sum_j weights[j] exp(q_j . x / temperature) + b, also for one interest.
struct ScoreQueries {
  const float* vectors = nullptr;  // [batch, num_interests, dim], finite
  const float* weights = nullptr;  // [batch, num_interests], finite, >= 0, some > 0; 0: takes no part. Or null
  double temperature = 1.0;        // a positive, normal float32 number; unused without weights
  int64_t batch = 0;
  int64_t num_interests = 1;  // 1 .. kMaxScoreInterests
};

struct ScoredItem {
  float score;
  int64_t item;
};

// One user's question, prepared by the engine.
struct TopkQuery {
  const float* vectors;       // [num_interests, dim]
  const int8_t* codes;        // [num_interests, code_stride(dim)], in [-127, 127]
  const int32_t* code_sums;   // [num_interests], the sum of each row of codes
  const float* scales;        // [num_interests], 0 or a normal number
  const float* errors;        // [num_interests], >= |q - t p|
  const float* norms;         // [num_interests], >= |q|
  const float* weights;       // [num_interests], > 0; or null: score = q . x + b, num_interests is 1
  const double* log_weights;  // [num_interests], temperature * log(weights[j]); null without weights
  double log_total;           // temperature * log(sum of weights)
  int64_t num_interests;      // 1 .. kMaxScoreInterests
  double temperature;         // > 0
  const int64_t* exclude;     // [num_exclude] rows never returned, strictly increasing
  int64_t num_exclude;
  // The best of the rows before first_item and how many; the kernel goes on from them. best[0] is the worst one kept (a
  // heap).
  ScoredItem* best;  // [k]
  int64_t num_best;
  int64_t k;  // >= 1
};

// Scans rows [first_item, last_item) for all queries, updating best and num_best of each. Scores beyond float32 are
// kept as infinities: the engine refuses them. scratch: score_topk_scratch_size() bytes, 64-byte aligned.
using ScoreTopkFn = void(const CatalogView& catalog, int64_t first_item, int64_t last_item, TopkQuery* queries,
                         int64_t num_queries, void* scratch);

inline constexpr int64_t kScanBlock = 512;  // rows whose codes stay in the cache while all queries see them

constexpr int64_t score_topk_scratch_size() { return kScanBlock * 48; }

// The score of one row x with bias b, before its one rounding to float32. vectors, weights, num_interests, temperature
// as in TopkQuery. One function for all ISAs: this, not the scan, is what decides.
double exact_score(const float* vectors, const float* weights, int64_t num_interests, double temperature,
                   const float* x, float b, int64_t dim);

}  // namespace lsif
