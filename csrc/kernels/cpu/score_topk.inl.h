// Implements kernels/score_topk.h. docs/score_topk.md derives the bounds and the slack for rounding used here.
//
// Bounds are plain float32 loops that the compiler turns into vectors; their last bits may differ between ISAs, which
// is harmless: they only decide which rows are looked at exactly.
#pragma once

#include <math.h>

#include "kernels/cpu/simd_int8.h"
#include "kernels/cpu/topk_heap.inl.h"
#include "kernels/score_topk.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

constexpr int64_t kFilterGroup = 32;  // rows tested at once; survivors are handled out of line
constexpr float kNormSlack = 0x1p-18f;
constexpr double kUnderflowSlack = 0x1p-80;
constexpr double kLogSlack = 0x1p-20;
constexpr int32_t kInfinityBits = 0x7f800000;

// The rows of one block in the block's own units: rows times 2^-row_exponent, bias times 2^-bias_exponent.
struct ScanScratch {
  alignas(64) float scales[kScanBlock];
  alignas(64) float errors[kScanBlock];
  alignas(64) float norms[kScanBlock];
  alignas(64) float bias[kScanBlock];
  alignas(64) float upper[kScanBlock];  // several interests: max_j u_j, and max_j (u_j + tau log w_j)
  alignas(64) float weighted_upper[kScanBlock];
  alignas(64) int32_t dots[kVectorTile][kScanBlock];
  bool is_finite;  // norms and errors are
  int row_exponent;
  int bias_exponent;
  int64_t first_item;
  int64_t num_rows;
  int64_t num_padded;  // up to the next kFilterGroup
};
static_assert(sizeof(ScanScratch) <= score_topk_scratch_size());

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

inline void load_block(const CatalogView& catalog, int64_t first_item, int64_t num_rows, ScanScratch& block) {
  block.first_item = first_item;
  block.num_rows = num_rows;
  block.num_padded = (num_rows + kFilterGroup - 1) / kFilterGroup * kFilterGroup;
  const float* scales = catalog.scales + first_item;
  const float* errors = catalog.errors + first_item;
  const float* norms = catalog.norms + first_item;
  const float* bias = catalog.bias == nullptr ? nullptr : catalog.bias + first_item;
  const int32_t largest = larger(max_magnitude_bits(norms, num_rows), max_magnitude_bits(errors, num_rows));
  block.is_finite = largest < kInfinityBits;
  block.row_exponent = exponent_above(largest);
  block.bias_exponent = bias == nullptr ? -126 : exponent_above(max_magnitude_bits(bias, num_rows));
  const float row_unit = power_of_2(-block.row_exponent);
  const float bias_unit = power_of_2(-block.bias_exponent);
  for (int64_t i = 0; i < num_rows; ++i) {
    block.scales[i] = scales[i] * row_unit;
    block.errors[i] = errors[i] * row_unit;
    block.norms[i] = norms[i] * row_unit;
  }
  for (int64_t i = 0; i < num_rows; ++i) block.bias[i] = bias == nullptr ? 0.0f : bias[i] * bias_unit;
  for (int64_t i = num_rows; i < block.num_padded; ++i) {
    block.scales[i] = block.errors[i] = block.norms[i] = block.bias[i] = 0;
    for (auto& dots : block.dots) dots[i] = 0;
  }
}

// One query against one block, in the query's unit 2^exponent, which is chosen so that no bound exceeds a few units.
struct QueryScan {
  TopkQuery* query;
  bool is_bounded;  // false: some norm or error is beyond float32, nothing can be dropped
  int exponent;
  float vector_unit;  // what the scale, error and norm of a query vector are multiplied by
  float unit_factor;
  float bias_factor;
  float threshold;   // rows whose bound is below cannot enter; -inf while there are fewer than k
  double log_total;  // several interests: temperature * log(sum of weights) and temperature * log(num_interests),
  double log_count;  // rounded up
};

inline void update_threshold(QueryScan& scan) {
  const TopkQuery& query = *scan.query;
  if (query.num_best < query.k || !scan.is_bounded) {
    scan.threshold = -HUGE_VALF;
    return;
  }
  // Rows come in ascending order, so a row that rounds to the K-th best score loses the tie: it must be above it.
  const double scaled = static_cast<double>(query.best[0].score) * power_of_2_double(-scan.exponent);
  scan.threshold = static_cast<float>(scaled - kUnderflowSlack);
}

inline void start_logs(QueryScan& scan) {
  const TopkQuery& query = *scan.query;
  const double log_count = query.temperature * ::log(static_cast<double>(query.num_interests));
  double largest = magnitude(query.log_total) + log_count;
  for (int64_t j = 0; j < query.num_interests; ++j) {
    const double log_weight = magnitude(query.log_weights[j]);
    if (log_weight > largest) largest = log_weight;
  }
  scan.exponent = larger(scan.exponent, exponent_above(float_bits(static_cast<float>(largest))));
  scan.log_total = query.log_total + largest * kLogSlack;
  scan.log_count = log_count + largest * kLogSlack;
}

inline QueryScan start_query(TopkQuery& query, const ScanScratch& block) {
  const int32_t largest = larger(max_magnitude_bits(query.norms, query.num_interests),
                                 max_magnitude_bits(query.errors, query.num_interests));
  const int vector_exponent = exponent_above(largest);
  const int product_exponent = vector_exponent + block.row_exponent;
  QueryScan scan{};
  scan.query = &query;
  scan.is_bounded = block.is_finite && largest < kInfinityBits;
  scan.exponent = larger(product_exponent, block.bias_exponent);
  if (query.weights != nullptr) start_logs(scan);
  scan.vector_unit = power_of_2(-vector_exponent);
  scan.unit_factor = power_of_2(product_exponent - scan.exponent);
  scan.bias_factor = power_of_2(block.bias_exponent - scan.exponent);
  update_threshold(scan);
  return scan;
}

// u_j, the upper bound of q_j . x in the query's unit, from the integer dot product.
struct VectorBound {
  float scale;
  float error;
  float norm;

  float operator()(const ScanScratch& block, const int32_t* dots, int64_t i) const {
    return static_cast<float>(dots[i]) * (scale * block.scales[i]) + (error * block.norms[i] + norm * block.errors[i]);
  }
};

inline VectorBound vector_bound(const QueryScan& scan, int64_t j) {
  const TopkQuery& query = *scan.query;
  const float norm = query.norms[j] * scan.vector_unit;
  const float error = query.errors[j] * scan.vector_unit;
  return {query.scales[j] * scan.vector_unit * scan.unit_factor, (error + norm * kNormSlack) * scan.unit_factor,
          (norm + norm * kNormSlack) * scan.unit_factor};
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

__attribute__((noinline)) void score_survivors(const CatalogView& catalog, const ScanScratch& block, int64_t first_row,
                                               const float* upper, QueryScan& scan) {
  TopkQuery& query = *scan.query;
  for (int64_t i = 0; i < kFilterGroup && first_row + i < block.num_rows; ++i) {
    if (upper[i] < scan.threshold) continue;
    const int64_t item = block.first_item + first_row + i;
    if (is_excluded(query, item)) continue;
    const double score = exact_score(query.vectors, query.weights, query.num_interests, query.temperature,
                                     catalog.vectors + item * catalog.dim,
                                     catalog.bias == nullptr ? 0.0f : catalog.bias[item], catalog.dim);
    if (offer(query, {static_cast<float>(score), item})) update_threshold(scan);
  }
}

template <typename Bound>
inline void filter_rows(const CatalogView& catalog, const ScanScratch& block, QueryScan& scan, Bound bound) {
  alignas(64) float upper[kFilterGroup];
  for (int64_t row = 0; row < block.num_padded; row += kFilterGroup) {
    const float threshold = scan.threshold;
    int32_t num_below = 0;
    for (int64_t i = 0; i < kFilterGroup; ++i) {
      upper[i] = bound(row + i) + block.bias[row + i] * scan.bias_factor;
      num_below += upper[i] < threshold ? 1 : 0;
    }
    if (num_below != kFilterGroup) score_survivors(catalog, block, row, upper, scan);
  }
}

// Takes interest j of a query with weights into the block's upper and weighted_upper.
inline void add_interest(ScanScratch& block, const int32_t* dots, const QueryScan& scan, int64_t j) {
  const VectorBound bound = vector_bound(scan, j);
  const auto log_weight = static_cast<float>(scan.query->log_weights[j] * power_of_2_double(-scan.exponent));
  for (int64_t i = 0; i < block.num_padded; ++i) {
    const float upper = bound(block, dots, i);
    const float weighted = upper + log_weight;
    block.upper[i] = j == 0 || upper > block.upper[i] ? upper : block.upper[i];
    block.weighted_upper[i] = j == 0 || weighted > block.weighted_upper[i] ? weighted : block.weighted_upper[i];
  }
}

inline void filter_weighted(const CatalogView& catalog, const ScanScratch& block, QueryScan& scan) {
  const double unit = power_of_2_double(-scan.exponent);
  const auto log_total = static_cast<float>(scan.log_total * unit);
  const auto log_count = static_cast<float>(scan.log_count * unit);
  filter_rows(catalog, block, scan, [&](int64_t i) {
    const float by_total = block.upper[i] + log_total;
    const float by_count = block.weighted_upper[i] + log_count;
    return by_count < by_total ? by_count : by_total;
  });
}

void use_dots(const CatalogView& catalog, ScanScratch& block, const int32_t* dots, TopkQuery& query, int64_t interest) {
  QueryScan scan = start_query(query, block);
  if (query.weights == nullptr) {
    const VectorBound bound = vector_bound(scan, 0);
    filter_rows(catalog, block, scan, [&](int64_t i) { return bound(block, dots, i); });
    return;
  }
  add_interest(block, dots, scan, interest);
  if (interest + 1 == query.num_interests) filter_weighted(catalog, block, scan);
}

// The interests of all queries one after another, kVectorTile at a time.
void scan_block(const CatalogView& catalog, ScanScratch& block, TopkQuery* queries, int64_t num_queries) {
  struct Member {
    int64_t query;
    int64_t interest;
  };
  const int64_t stride = code_stride(catalog.dim);
  const int8_t* rows = catalog.codes + block.first_item * stride;
  Member next = {0, 0};
  while (next.query < num_queries) {
    CodedVector tile[kVectorTile];
    Member members[kVectorTile];
    int size = 0;
    for (; size < kVectorTile && next.query < num_queries; ++size) {
      const TopkQuery& query = queries[next.query];
      tile[size] = {query.codes + next.interest * stride, query.code_sums[next.interest], block.dots[size]};
      members[size] = next;
      next =
          next.interest + 1 == query.num_interests ? Member{next.query + 1, 0} : Member{next.query, next.interest + 1};
    }
    dot_rows(rows, stride, block.num_rows, tile, size);
    for (int i = 0; i < size; ++i) {
      use_dots(catalog, block, block.dots[i], queries[members[i].query], members[i].interest);
    }
  }
}

void score_topk(const CatalogView& catalog, int64_t first_item, int64_t last_item, TopkQuery* queries,
                int64_t num_queries, void* scratch) {
  ScanScratch& block = *static_cast<ScanScratch*>(scratch);
  for (int64_t item = first_item; item < last_item; item += kScanBlock) {
    const int64_t num_rows = last_item - item < kScanBlock ? last_item - item : kScanBlock;
    load_block(catalog, item, num_rows, block);
    scan_block(catalog, block, queries, num_queries);
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
