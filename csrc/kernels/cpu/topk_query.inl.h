// The state of one query of score_topk.inl.h: its unit, its threshold, and the rows that wait for being scored exactly.
#pragma once

#include <math.h>

#include "kernels/cpu/exact_score.inl.h"
#include "kernels/cpu/simd_int4.h"
#include "kernels/cpu/topk_heap.inl.h"
#include "kernels/cpu/topk_select.inl.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// docs/score_topk.md, "Rounding and range".
constexpr float kNormSlack = 0x1p-18f;
constexpr double kUnderflowSlack = 0x1p-80;
constexpr double kRoundingSlack = 0x1p-150;
constexpr double kLogSlack = 0x1p-20;
constexpr float kScoreSlack = 0x1p-22f;
constexpr double kLeastTemperature = 0x1p-60;
constexpr float kLeastShare = 0x1p-126f;
constexpr double kLog2E = 1.4426950408889634;
constexpr int32_t kInfinityBits = 0x7f800000;

constexpr int64_t kRowsAhead = 16;  // that are fetched while one is scored
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

// Rows, biases and queries are multiplied by powers of two before anything is computed, so that no bound exceeds a few
// units of 2^exponent, which is the same for all queries of a scan.
struct Units {
  int row_exponent;
  int bias_exponent;
  int exponent;
  float row;          // 2^-row_exponent
  float bias;         // 2^-bias_exponent
  float bias_factor;  // what is left to multiply biases by
};

struct QueryScan;

// One interest of a query.
struct VectorScan : CodedVector {
  QueryScan* query;  // without weights
  float scale;
  float norm;
  float missed;      // |q - t p| / |q|
  float log_weight;  // with weights: temperature * log(weight)
  float weight;      // and its share of their sum, at least kLeastShare
  float threshold;   // without: the query's
};

struct QueryScan {
  TopkQuery* query;
  VectorScan* vectors;  // [num_interests]
  Candidate* candidates;
  int64_t num_candidates;
  int64_t limit;  // of num_candidates, but for those of a group
  int64_t max_candidates;
  int64_t first_item;  // of the scan
  int exponent;        // of the unit
  bool is_bounded;     // false: some norm or error is beyond float32, nothing can be dropped
  float least;         // so many rows as are wanted score no less: -inf, or what a scan that was given up left
  float threshold;     // rows whose bound is below cannot enter; -inf while no k rows are known
  float log_total;     // several interests: temperature * log(sum of weights) and temperature * log(num_interests),
  float log_count;     // rounded up
  float temperature;   // 0: too small a part of the unit to divide by
  float binary;        // log2(e) / temperature
  float offset;        // binary * (log_total - threshold), rounded up
  float missed;        // the largest of the vectors'
  uint32_t needed;     // of the 16 regions that are scanned next, where there is an order
};

// The larger of `score` and what other scans know, which learn it from this.
inline float share_score(float* known_score, float score) {
  float known = 0;
  __atomic_load(known_score, &known, __ATOMIC_RELAXED);
  while (known < score) {
    if (__atomic_compare_exchange(known_score, &known, &score, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return score;
  }
  return known;
}

inline void update_threshold(QueryScan& scan) {
  const TopkQuery& query = *scan.query;
  float score = scan.least;
  if (query.num_best == query.k && query.best[0].score > score) score = query.best[0].score;
  if (query.known_score != nullptr) score = share_score(query.known_score, score);
  scan.threshold = -HUGE_VALF;
  if (scan.is_bounded) {
    const double scaled = (static_cast<double>(score) - kRoundingSlack) * power_of_2_double(-scan.exponent);
    scan.threshold = static_cast<float>(scaled - kUnderflowSlack);
  }
  const float rounding = (scan.threshold < 0 ? -scan.threshold : scan.threshold) * kScoreSlack;
  scan.offset = scan.binary * (rounding + scan.log_total - scan.threshold);
  scan.vectors[0].threshold = scan.threshold;
}

// The row of a slot.
inline int64_t item_of(const CodesView& codes, int64_t slot) {
  if (codes.order == nullptr) return slot;
  int32_t item = 0;
  __builtin_memcpy(&item, codes.order + slot * 4, 4);
  return item;
}

// Those of `mask` that may be returned, of the group that begins at first_slot.
inline uint32_t allowed_rows(const CodesView& codes, const uint64_t* allowed, int64_t first_slot, uint32_t mask) {
  // Without an order they lie in one word of the bitmap.
  if (codes.order == nullptr) return mask & static_cast<uint32_t>(allowed[first_slot / 64] >> (first_slot % 64));
  uint32_t kept = 0;
  for (; mask != 0; mask &= mask - 1) {
    const int r = __builtin_ctz(mask);
    const int64_t item = item_of(codes, first_slot + r);
    kept |= static_cast<uint32_t>(allowed[item / 64] >> (item % 64) & 1) << r;
  }
  return kept;
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
  if (catalog.bias != nullptr) __builtin_prefetch(catalog.bias + item);
}

inline void score_rows(const CatalogView& catalog, QueryScan& scan, const Candidate* candidates, int64_t size) {
  TopkQuery& query = *scan.query;
  for (int64_t i = 0; i < size; ++i) {
    const int64_t ahead = i + kRowsAhead;
    if (ahead < size && !(candidates[ahead].upper < scan.threshold)) {
      prefetch_row(catalog, item_of(catalog.codes, scan.first_item + candidates[ahead].row));
    }
    if (candidates[i].upper < scan.threshold) continue;
    const int64_t item = item_of(catalog.codes, scan.first_item + candidates[i].row);
    if (is_excluded(query, item)) continue;
    const double score = exact_score(query.vectors, query.weights, query.num_interests, query.temperature,
                                     catalog.vectors + item * catalog.dim,
                                     catalog.bias == nullptr ? 0.0f : catalog.bias[item], catalog.dim);
    if (offer(query, {static_cast<float>(score), item})) update_threshold(scan);
  }
}

// Scores the k rows of the largest bounds among those that wait, which raises the threshold above most of the others,
// and returns where those others begin.
inline int64_t score_largest(const CatalogView& catalog, QueryScan& scan) {
  const int64_t size = scan.num_candidates;
  const int64_t first = scan.query->k < size ? scan.query->k : size;
  select_largest(scan.candidates, size, first);
  score_rows(catalog, scan, scan.candidates, first);
  return first;
}

inline void score_candidates(const CatalogView& catalog, QueryScan& scan) {
  const int64_t first = score_largest(catalog, scan);
  score_rows(catalog, scan, scan.candidates + first, scan.num_candidates - first);
  scan.num_candidates = 0;
}

// Makes room for those to come. The first time is early, for the sake of a threshold.
__attribute__((noinline)) void thin_candidates(const CatalogView& catalog, QueryScan& scan) {
  Candidate* candidates = scan.candidates;
  int64_t kept = 0;
  for (int64_t i = score_largest(catalog, scan); i < scan.num_candidates; ++i) {
    if (!(candidates[i].upper < scan.threshold)) candidates[kept++] = candidates[i];
  }
  scan.num_candidates = kept;
  if (2 * kept > scan.max_candidates) score_candidates(catalog, scan);
  scan.limit = 2 * scan.limit < scan.max_candidates ? 2 * scan.limit : scan.max_candidates;
}

// Keeps rows first_item + i for each bit i of mask.
inline void keep_candidates(const CatalogView& catalog, QueryScan& scan, GroupFloats upper, int64_t first_item,
                            uint32_t mask) {
  const uint64_t* allowed = scan.query->allowed;
  if (allowed != nullptr) mask = allowed_rows(catalog.codes, allowed, first_item, mask);
  const auto first_row = static_cast<uint32_t>(first_item - scan.first_item);
  scan.num_candidates += append_candidates(scan.candidates + scan.num_candidates, upper, first_row, mask);
  if (scan.query->known_score != nullptr) update_threshold(scan);
  if (scan.num_candidates >= scan.limit) thin_candidates(catalog, scan);
}

inline int32_t largest_bits(const TopkQuery& query) {
  return larger(max_magnitude_bits(query.norms, query.num_interests),
                max_magnitude_bits(query.errors, query.num_interests));
}

// The largest of the logarithms in the bounds of a query with weights.
inline double largest_log(const TopkQuery& query) {
  double largest = magnitude(query.log_total) + query.temperature * ::log(static_cast<double>(query.num_interests));
  for (int64_t j = 0; j < query.num_interests; ++j) {
    const double log_weight = magnitude(query.log_weights[j]);
    if (log_weight > largest) largest = log_weight;
  }
  return largest;
}

inline Units units_of(const CatalogView& catalog, const TopkQuery* queries, int64_t num_queries) {
  Units units{};
  units.row_exponent = exponent_above(float_bits(catalog.codes.row_size));
  units.bias_exponent = exponent_above(float_bits(catalog.codes.bias_size));
  units.exponent = units.bias_exponent;
  for (int64_t q = 0; q < num_queries; ++q) {
    units.exponent = larger(units.exponent, exponent_above(largest_bits(queries[q])) + units.row_exponent);
    if (queries[q].weights == nullptr) continue;
    units.exponent = larger(units.exponent, exponent_above(float_bits(static_cast<float>(largest_log(queries[q])))));
  }
  units.row = power_of_2(-units.row_exponent);
  units.bias = power_of_2(-units.bias_exponent);
  units.bias_factor = power_of_2(units.bias_exponent - units.exponent);
  return units;
}

// The logarithms of a query with weights, rounded up.
inline void start_logs(QueryScan& scan) {
  const TopkQuery& query = *scan.query;
  const double exponentials = query.num_interests > 1 ? 4 * query.temperature : 0;
  const double slack = (largest_log(query) + exponentials) * kLogSlack;
  const double log_count = query.temperature * ::log(static_cast<double>(query.num_interests));
  const double unit = power_of_2_double(-scan.exponent);
  scan.log_total = static_cast<float>((query.log_total + slack) * unit);
  scan.log_count = static_cast<float>((log_count + slack) * unit);
  const double temperature = query.temperature * unit;
  scan.temperature = query.num_interests > 1 && temperature > kLeastTemperature ? static_cast<float>(temperature) : 0;
  scan.binary = scan.temperature == 0 ? 0.0f : static_cast<float>(kLog2E / temperature);
  double total = 0;
  for (int64_t j = 0; j < query.num_interests; ++j) total += static_cast<double>(query.weights[j]);
  for (int64_t j = 0; j < query.num_interests; ++j) {
    scan.vectors[j].log_weight = static_cast<float>(query.log_weights[j] * unit);
    // The least normal number in place of those below: they are rounded too far, or to 0 where denormals are flushed.
    const auto share = static_cast<float>(static_cast<double>(query.weights[j]) / total);
    scan.vectors[j].weight = share > kLeastShare ? share : kLeastShare;
  }
}

inline void start_query(const Units& units, int64_t stride, QueryScan& scan) {
  const TopkQuery& query = *scan.query;
  const int32_t largest = largest_bits(query);
  const int vector_exponent = exponent_above(largest);
  const float vector_unit = power_of_2(-vector_exponent);
  const float unit_factor = power_of_2(vector_exponent + units.row_exponent - units.exponent);
  scan.exponent = units.exponent;
  scan.is_bounded = largest < kInfinityBits;
  for (int64_t j = 0; j < query.num_interests; ++j) {
    VectorScan& vector = scan.vectors[j];
    const float norm = query.norms[j] * vector_unit;
    const float error = query.errors[j] * vector_unit;
    vector.codes = query.codes + j * stride;
    vector.start = -kCodeOffset * query.code_sums[j];
    vector.query = &scan;
    vector.scale = query.scales[j] * vector_unit * unit_factor;
    vector.norm = (norm + norm * kNormSlack) * unit_factor * query.error_share;
    vector.missed = norm == 0 ? 0.0f : error / norm + kNormSlack;
    scan.missed = vector.missed > scan.missed ? vector.missed : scan.missed;
  }
  if (query.weights != nullptr) start_logs(scan);
  update_threshold(scan);
}

template <typename T>
inline void exchange(T& a, T& b) {
  const T c = a;
  a = b;
  b = c;
}

// Two of the queries of a scan. Without weights their vectors are scanned together, in the queries' order.
inline void swap_scans(QueryScan& a, QueryScan& b) {
  exchange(a, b);
  if (a.query->weights != nullptr) return;
  exchange(*a.vectors, *b.vectors);
  exchange(a.vectors, b.vectors);
  a.vectors->query = &a;
  b.vectors->query = &b;
}

inline void use_list(Candidate* candidates, int64_t max_candidates, QueryScan& scan) {
  const int64_t early = 32 + 2 * scan.query->k;
  scan.candidates = candidates;
  scan.max_candidates = max_candidates;
  scan.limit = early < max_candidates ? early : max_candidates;
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
    use_list(candidates, max_candidates(num_queries, queries[q].k), scan);
    scan.first_item = first_item;
    scan.least = -HUGE_VALF;
    start_query(units, query_stride(catalog.dim), scan);
    vectors += queries[q].num_interests;
    candidates += scan.max_candidates + kTouchedCandidates;
  }
  return scans;
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
