// The state of one query of score_topk.inl.h, with its unit and threshold.
#pragma once

#include <math.h>

#include "kernels/cpu/float32_scores.inl.h"
#include "kernels/cpu/simd_int4.h"
#include "kernels/score_topk.h"
#include "kernels/score_topk_bounds.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// docs/score_topk.md, "Rounding and range".
constexpr double kRoundingSlack = 0x1p-126;  // 2^-150 on a GPU, which flushes no subnormals
constexpr float kScoreSlack = 0x1p-22f;
constexpr double kLeastTemperature = 0x1p-60;
constexpr float kLeastShare = 0x1p-126f;
constexpr double kLog2E = 1.4426950408889634;
constexpr int32_t kInfinityBits = 0x7f800000;

inline double power_of_2_double(int exponent) {
  return __builtin_bit_cast(double, static_cast<int64_t>(exponent + 1023) << 52);
}

inline int larger(int a, int b) { return a > b ? a : b; }

inline double magnitude(double x) { return x < 0 ? -x : x; }

// Non-negative floats order like their bits, and integer maxima vectorize.
inline int32_t max_magnitude_bits(const float* x, int64_t n) {
  int32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t bits = float_bits(x[i]) & 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

// Rows, biases and queries are first scaled by powers of two, so that no bound exceeds a few units of 2^exponent. The
// exponent is the same for all queries of a scan.
struct Units {
  int row_exponent;
  int bias_exponent;
  int exponent;
  float row;          // 2^-row_exponent
  float bias;         // 2^-bias_exponent
  float bias_factor;  // remaining factor for the biases
};

struct QueryScan;

// One interest of a query.
struct VectorScan : CodedVector {
  QueryScan* query;  // set without weights
  float scale;
  float norm;
  float missed;      // |q - t p| / |q|
  float log_weight;  // with weights: temperature * log(weight)
  float weight;      // its share of the sum of weights, at least kLeastShare
  float threshold;   // without weights: the query's
};

struct QueryScan {
  TopkQuery* query;
  VectorScan* vectors;  // [num_interests]
  Candidate* candidates;
  int64_t num_candidates;
  int64_t num_scored;  // candidates scored so far
  int64_t limit;       // of num_candidates, may be exceeded by one group
  int64_t max_candidates;
  int64_t first_item;      // of the scan
  int exponent;            // of the unit
  bool is_bounded;         // false: some norm or error exceeds float32, so nothing can be dropped
  float least;             // a score that at least k rows reach; -inf, or known from a scan that gave up
  float threshold;         // rows whose bound is lower cannot enter; -inf until k rows are known
  double float_error;      // of scores in float32, not in the unit; infinity: unknown
  double float_threshold;  // rows whose score in float32 is lower cannot enter
  float log_total;         // several interests: temperature * log(sum of weights) and temperature * log(num_interests),
  float log_count;         // rounded up
  float temperature;       // 0: too small, relative to the unit, to divide by
  float binary;            // log2(e) / temperature
  float offset;            // binary * (log_total - threshold), rounded up
  float missed;            // the largest `missed` of the vectors
  uint32_t needed;         // of the next 16 regions, if there is an order
};

// The larger of `score` and the score known from other scans; also publishes it to them.
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
  scan.float_threshold = below_score(static_cast<double>(score), scan.float_error);
  if (scan.is_bounded) {
    const double scaled = (static_cast<double>(score) - kRoundingSlack) * power_of_2_double(-scan.exponent);
    scan.threshold = static_cast<float>(scaled - kUnderflowSlack);
  }
  const float rounding = (scan.threshold < 0 ? -scan.threshold : scan.threshold) * kScoreSlack;
  scan.offset = scan.binary * (rounding + scan.log_total - scan.threshold);
  scan.vectors[0].threshold = scan.threshold;
}

inline int32_t largest_bits(const TopkQuery& query) {
  return larger(max_magnitude_bits(query.norms, query.num_interests),
                max_magnitude_bits(query.errors, query.num_interests));
}

// The largest magnitude of a logarithm in the bounds of a query with weights.
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

// Sets the logarithms of a query with weights, rounded up.
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
    // Smaller shares are raised to the least normal number: subnormals lose precision, or are flushed to 0.
    const auto share = static_cast<float>(static_cast<double>(query.weights[j]) / total);
    scan.vectors[j].weight = share > kLeastShare ? share : kLeastShare;
  }
}

inline void start_query(const CatalogView& catalog, const Units& units, QueryScan& scan) {
  const int64_t stride = query_stride(catalog.dim);
  const TopkQuery& query = *scan.query;
  const int32_t largest = largest_bits(query);
  const int vector_exponent = exponent_above(largest);
  const float vector_unit = power_of_2(-vector_exponent);
  const float unit_factor = power_of_2(vector_exponent + units.row_exponent - units.exponent);
  scan.exponent = units.exponent;
  scan.is_bounded = largest < kInfinityBits;
  scan.float_error = HUGE_VAL;
  if (query.weights == nullptr && scan.is_bounded) {
    scan.float_error = float32_error(static_cast<double>(query.norms[0]), static_cast<double>(catalog.codes.row_size),
                                     static_cast<double>(catalog.codes.bias_size), catalog.dim);
  }
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

// Swaps two queries of a scan. Without weights their vectors are scanned together, in the order of the queries.
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

// Lays out the queries' state in `memory`, whose size is score_topk_scratch_size().
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
    start_query(catalog, units, scan);
    vectors += queries[q].num_interests;
    candidates += scan.max_candidates + kTouchedCandidates;
  }
  return scans;
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
