// The state of one query of score_topk.inl.h: its unit, its threshold, and the rows that wait for being scored exactly.
#pragma once

#include <math.h>

#include "kernels/cpu/simd_int4.h"
#include "kernels/cpu/topk_heap.inl.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// docs/score_topk.md, "Rounding and range".
constexpr float kNormSlack = 0x1p-18f;
constexpr double kUnderflowSlack = 0x1p-80;
constexpr double kLogSlack = 0x1p-20;
constexpr int32_t kInfinityBits = 0x7f800000;

constexpr int64_t kRowsAhead = 4;  // that are fetched while one is scored
constexpr int64_t kMaxBytesAhead = 512;

inline int32_t float_bits(float x) { return __builtin_bit_cast(int32_t, x); }

// 2^exponent; 0 below the normal numbers.
inline float power_of_2(int exponent) {
  return exponent < -126 ? 0.0f : __builtin_bit_cast(float, static_cast<int32_t>(exponent + 127) << 23);
}

inline double power_of_2_double(int exponent) {
  return __builtin_bit_cast(double, static_cast<int64_t>(exponent + 1023) << 52);
}

inline int larger(int a, int b) { return a > b ? a : b; }

inline double magnitude(double x) { return x < 0 ? -x : x; }

// An e with x < 2^e for the x >= 0 of these bits, as far as 2^-126 <= 2^e <= 2^126; so x 2^-e <= 4 for all finite x.
inline int exponent_above(int32_t bits) {
  const int exponent = (bits >> 23) - 126;
  return exponent < -126 ? -126 : exponent > 126 ? 126 : exponent;
}

// Bits of non-negative floats have the floats' order, and integer maxima vectorize.
inline int32_t max_magnitude_bits(const float* x, int64_t n) {
  int32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t bits = float_bits(x[i]) & 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

// What rows and biases are multiplied by before anything is computed: powers of two that leave none of them large.
struct Units {
  int row_exponent;
  int bias_exponent;
  float row;  // 2^-row_exponent
  float bias;
};

inline Units units_of(const CatalogView& catalog) {
  Units units{};
  units.row_exponent = exponent_above(float_bits(catalog.codes.row_size));
  units.bias_exponent = exponent_above(float_bits(catalog.codes.bias_size));
  units.row = power_of_2(-units.row_exponent);
  units.bias = power_of_2(-units.bias_exponent);
  return units;
}

struct QueryScan;

// One interest of a query, in the query's unit.
struct VectorScan : CodedVector {
  QueryScan* query;
  float scale;
  float error;
  float norm;
  float log_weight;  // 0 without weights
};

// Everything about a query is in its unit 2^exponent, which is chosen so that no bound exceeds a few units.
struct QueryScan {
  TopkQuery* query;
  VectorScan* vectors;  // [num_interests]
  Candidate* candidates;
  int64_t num_candidates;
  int64_t first_item;  // of the scan
  bool is_bounded;     // false: some norm or error is beyond float32, nothing can be dropped
  int exponent;
  float bias_factor;  // from the unit of biases
  float threshold;    // rows whose bound is below cannot enter; -inf while there are fewer than k
  float log_total;    // several interests: temperature * log(sum of weights) and temperature * log(num_interests),
  float log_count;    // rounded up
};

inline void update_threshold(QueryScan& scan) {
  const TopkQuery& query = *scan.query;
  if (query.num_best < query.k || !scan.is_bounded) {
    scan.threshold = -HUGE_VALF;
    return;
  }
  const double scaled = static_cast<double>(query.best[0].score) * power_of_2_double(-scan.exponent);
  scan.threshold = static_cast<float>(scaled - kUnderflowSlack);
}

inline bool is_allowed(const TopkQuery& query, int64_t item) {
  return query.allowed == nullptr || (query.allowed[item / 64] >> (item % 64) & 1) != 0;
}

inline bool is_excluded(const TopkQuery& query, int64_t item) {
  int64_t low = 0;
  int64_t high = query.num_exclude;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (query.exclude[middle] < item) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < query.num_exclude && query.exclude[low] == item;
}

inline void prefetch_row(const CatalogView& catalog, int64_t item) {
  const auto* row = reinterpret_cast<const uint8_t*>(catalog.vectors + item * catalog.dim);
  const int64_t size = catalog.dim * 4 < kMaxBytesAhead ? catalog.dim * 4 : kMaxBytesAhead;
  for (int64_t i = 0; i < size; i += kLineBytes) __builtin_prefetch(row + i);
}

// Scores the rows that wait, the k of the largest bounds first: they raise the threshold above most of the others.
__attribute__((noinline)) void score_candidates(const CatalogView& catalog, QueryScan& scan) {
  TopkQuery& query = *scan.query;
  const Candidate* candidates = scan.candidates;
  const int64_t size = scan.num_candidates;
  scan.num_candidates = 0;
  select_largest(scan.candidates, size, query.k);
  for (int64_t i = 0; i < size; ++i) {
    const int64_t ahead = i + kRowsAhead;
    if (ahead < size && !(candidates[ahead].upper < scan.threshold)) {
      prefetch_row(catalog, scan.first_item + candidates[ahead].row);
    }
    if (candidates[i].upper < scan.threshold) continue;
    const int64_t item = scan.first_item + candidates[i].row;
    if (is_excluded(query, item)) continue;
    const double score = exact_score(query.vectors, query.weights, query.num_interests, query.temperature,
                                     catalog.vectors + item * catalog.dim,
                                     catalog.bias == nullptr ? 0.0f : catalog.bias[item], catalog.dim);
    if (offer(query, {static_cast<float>(score), item})) update_threshold(scan);
  }
}

inline void keep_candidate(const CatalogView& catalog, QueryScan& scan, float upper, int64_t item) {
  if (upper < scan.threshold) return;  // which may have risen since the row was found
  if (!is_allowed(*scan.query, item)) return;
  if (scan.num_candidates == max_candidates(scan.query->k)) score_candidates(catalog, scan);
  scan.candidates[scan.num_candidates++] = {upper, static_cast<uint32_t>(item - scan.first_item)};
}

// The logarithms of a query with weights: its unit must cover them, and they are rounded up.
inline void start_logs(QueryScan& scan) {
  const TopkQuery& query = *scan.query;
  const double log_count = query.temperature * ::log(static_cast<double>(query.num_interests));
  double largest = magnitude(query.log_total) + log_count;
  for (int64_t j = 0; j < query.num_interests; ++j) {
    const double log_weight = magnitude(query.log_weights[j]);
    if (log_weight > largest) largest = log_weight;
  }
  scan.exponent = larger(scan.exponent, exponent_above(float_bits(static_cast<float>(largest))));
  const double unit = power_of_2_double(-scan.exponent);
  scan.log_total = static_cast<float>((query.log_total + largest * kLogSlack) * unit);
  scan.log_count = static_cast<float>((log_count + largest * kLogSlack) * unit);
}

inline void start_vector(const QueryScan& scan, int64_t j, int64_t stride, float vector_unit, float unit_factor,
                         VectorScan& vector) {
  const TopkQuery& query = *scan.query;
  const float norm = query.norms[j] * vector_unit;
  const float error = query.errors[j] * vector_unit;
  vector.codes = query.codes + j * stride;
  vector.start = -kCodeOffset * query.code_sums[j];
  vector.scale = query.scales[j] * vector_unit * unit_factor;
  vector.error = (error + norm * kNormSlack) * unit_factor;
  vector.norm = (norm + norm * kNormSlack) * unit_factor;
  if (query.weights != nullptr) {
    vector.log_weight = static_cast<float>(query.log_weights[j] * power_of_2_double(-scan.exponent));
  }
}

inline void start_query(const Units& units, int64_t stride, QueryScan& scan) {
  const TopkQuery& query = *scan.query;
  const int32_t largest = larger(max_magnitude_bits(query.norms, query.num_interests),
                                 max_magnitude_bits(query.errors, query.num_interests));
  const int vector_exponent = exponent_above(largest);
  const int product_exponent = vector_exponent + units.row_exponent;
  scan.is_bounded = largest < kInfinityBits;
  scan.exponent = larger(product_exponent, units.bias_exponent);
  if (query.weights != nullptr) start_logs(scan);
  scan.bias_factor = power_of_2(units.bias_exponent - scan.exponent);
  const float vector_unit = power_of_2(-vector_exponent);
  const float unit_factor = power_of_2(product_exponent - scan.exponent);
  for (int64_t j = 0; j < query.num_interests; ++j) {
    start_vector(scan, j, stride, vector_unit, unit_factor, scan.vectors[j]);
    scan.vectors[j].query = &scan;
  }
  update_threshold(scan);
}

// Lays the queries' state out in `memory`, as score_topk_scratch_size() counts it.
inline QueryScan* start_queries(const CatalogView& catalog, const Units& units, int64_t first_item, TopkQuery* queries,
                                int64_t num_queries, uint8_t* memory) {
  auto* scans = reinterpret_cast<QueryScan*>(memory);
  auto* vectors = reinterpret_cast<VectorScan*>(memory + num_queries * kBytesPerQuery);
  int64_t num_vectors = 0;
  for (int64_t q = 0; q < num_queries; ++q) num_vectors += queries[q].num_interests;
  auto* candidates = reinterpret_cast<Candidate*>(vectors + num_vectors);
  for (int64_t q = 0; q < num_queries; ++q) {
    QueryScan& scan = scans[q];
    scan = QueryScan{};
    scan.query = queries + q;
    scan.vectors = vectors;
    scan.candidates = candidates;
    scan.first_item = first_item;
    start_query(units, query_stride(catalog.dim), scan);
    vectors += queries[q].num_interests;
    candidates += max_candidates(queries[q].k);
  }
  return scans;
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
