// The exact score, which decides the results, and the filters of rows. Compiled without contraction (-fmad=false):
// float64 sums round as on the CPU.
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/topk_keys.cuh"

namespace lsif::cuda {

constexpr int kScoreLanes = 8;  // that score a row together, one per partial sum of exact_dot

// exact_dot() by the eight lanes of a row, each with one partial sum. All threads of the warp must call; every lane
// gets the result.
__device__ inline double exact_dot_of_lanes(const float* q, const float* x, int64_t dim) {
  double sum = 0.0;
#pragma unroll 8
  for (int i = static_cast<int>(threadIdx.x % kScoreLanes); i < static_cast<int>(dim); i += kScoreLanes) {
    sum += static_cast<double>(q[i]) * static_cast<double>(x[i]);
  }
  for (int offset = kScoreLanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  return sum;
}

// By the eight lanes of a row, as above.
__device__ inline float exact_score(const CatalogView& catalog, const ScoreQueries& queries, int64_t query,
                                    int64_t item) {
  const int64_t dim = catalog.dim;
  const float* x = catalog.vectors + item * dim;
  const float* q = queries.vectors + query * queries.num_interests * dim;
  const double bias = catalog.bias == nullptr ? 0.0 : static_cast<double>(catalog.bias[item]);
  if (queries.weights == nullptr) return static_cast<float>(exact_dot_of_lanes(q, x, dim) + bias);
  const float* weights = queries.weights + query * queries.num_interests;
  double largest = -static_cast<double>(__builtin_inff());
  for (int64_t j = 0; j < queries.num_interests; ++j) {
    const double dot = exact_dot_of_lanes(q + j * dim, x, dim);
    if (weights[j] > 0.0f) largest = fmax(largest, dot);
  }
  // The products are computed again, as there is no room to keep them.
  double sum = 0.0;
  for (int64_t j = 0; j < queries.num_interests; ++j) {
    const double dot = exact_dot_of_lanes(q + j * dim, x, dim);
    if (weights[j] == 0.0f) continue;
    sum += static_cast<double>(weights[j]) * exp((dot - largest) / queries.temperature);
  }
  return static_cast<float>(largest + queries.temperature * log(sum) + bias);
}

__device__ inline bool is_allowed(const Filters& filters, int64_t query, int64_t item) {
  if (filters.allowed == nullptr || filters.allowed[query] == nullptr) return true;
  return (filters.allowed[query][item / 64] >> (item % 64) & 1) != 0;
}

__device__ inline bool is_excluded(const Filters& filters, int64_t query, int64_t item) {
  if (filters.exclude_offsets == nullptr) return false;
  const int64_t* items = filters.exclude_items + filters.exclude_offsets[query];
  const int64_t count = filters.exclude_offsets[query + 1] - filters.exclude_offsets[query];
  const int64_t place = partition_point(count, [&](int64_t i) { return items[i] < item; });
  return place < count && items[place] == item;
}

// The key of a row for a query, by the eight lanes of the row; kNoRow if it must not be returned or is not a row.
__device__ inline uint64_t exact_key(const CatalogView& catalog, const ScoreQueries& queries, const Filters& filters,
                                     int64_t query, int64_t item, bool is_row) {
  const float score = exact_score(catalog, queries, query, is_row ? item : 0);
  if (!is_row || !is_allowed(filters, query, item) || is_excluded(filters, query, item)) return kNoRow;
  return key_of(score, item);
}

}  // namespace lsif::cuda
