// Parameters that score_topk.cu computes from the sizes of a search, and the layout of its workspace.
#pragma once

#include <type_traits>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/topk_bounds.cuh"

namespace lsif::cuda {
namespace {

constexpr int64_t kLeastParts = 4096;       // groups in a sample, if there are as many, per 64 dimensions,
constexpr int64_t kPartsPerResult = 128;    // or this many per result, if that is more;
constexpr int64_t kManyParts = 16384;       // the most that these two give
constexpr int64_t kFewPartsPerResult = 16;  // the least per result in any case
constexpr int64_t kMaxSampleStep = 32;
constexpr int64_t kLeastCapacity = 16384;   // the fewest rows of a query that may wait,
constexpr int64_t kCapacityPerResult = 64;  // or this many per result,
constexpr int64_t kRowsPerCapacity = 64;    // or one row in this many at 64 dimensions, more with more
constexpr int64_t kMostAtOnce = 512;        // the most queries searched together
constexpr int64_t kLeastAtOnce = 16;
constexpr int64_t kWaitingAtOnce = 1 << 23;  // the most waiting rows of all of them
constexpr int64_t kFinalistsPerResult = 8;   // rows separated from the other waiting rows

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The data of a search besides its arguments, and their places in the workspace.
struct Search {
  CatalogView catalog;
  ScoreQueries queries;
  Filters filters;
  CatalogUnits units;
  int64_t k;            // at most num_items
  int64_t num_vectors;  // over all queries
  int64_t sample_step;  // every sample_step-th group is in the sample
  int64_t num_parts;    // the groups of the sample
  int64_t capacity;     // of a query's list of waiting rows
  int64_t result_size;  // a power of two, at least k
  int64_t most_finalists;
  int64_t num_candidates;  // for a lone query (topk_lone.cuh): keys by exact scores in `parts`

  VectorBound* vectors;  // [num_vectors]
  QueryBound* bounds;    // [batch]
  int8_t* codes;         // [num_vectors, code_stride(dim)]
  uint64_t* parts;       // [batch, num_parts], the key of each part's most promising row, by its estimate
  uint64_t* waiting;     // [batch, capacity], keys of rows by their bounds, then by their scores
  uint64_t* finalists;   // [batch, most_finalists]
  uint64_t* results;     // [batch, 2 result_size]
};

// Groups in the sample. With more dimensions, bounds are further above scores, so that more rows are above a threshold:
// it has to be better.
constexpr int64_t wanted_parts(int64_t dim, int64_t k) {
  const int64_t many = smaller(kManyParts, larger(kLeastParts * divide_up(dim, 64), kPartsPerResult * k));
  return larger(many, kFewPartsPerResult * k);
}

// The capacity for one query. In isotropic data 2.5 times as many rows are kept with each doubling of the dimensions
// (docs/cuda.md).
constexpr int64_t room_to_wait(int64_t num_items, int64_t dim, int64_t k) {
  const int64_t times = divide_up(dim, 64);
  const int64_t share = divide_up(num_items, larger(1, kRowsPerCapacity / (times * times)));
  return smaller(num_items, larger(larger(kLeastCapacity, kCapacityPerResult * k), share));
}

// For as many queries as are searched together.
Search plan(const CatalogView& catalog, const ScoreQueries& queries, int64_t k) {
  Search s = {};
  s.catalog = catalog;
  s.queries = queries;
  s.k = smaller(k, catalog.num_items);
  s.capacity = room_to_wait(catalog.num_items, catalog.dim, s.k);
  const int64_t at_once = larger(kLeastAtOnce, smaller(kMostAtOnce, kWaitingAtOnce / larger(1, s.capacity)));
  s.queries.batch = smaller(queries.batch, at_once);
  s.num_vectors = s.queries.batch * queries.num_interests;
  const int64_t groups = num_groups(catalog.num_items);
  s.sample_step = smaller(kMaxSampleStep, larger(1, groups / wanted_parts(catalog.dim, s.k)));
  s.num_parts = divide_up(groups, s.sample_step);
  s.result_size = 1;
  while (s.result_size < s.k) s.result_size *= 2;
  s.most_finalists = smaller(s.capacity, larger(kSharedKeys, kFinalistsPerResult * s.k));
  return s;
}

// Lays out the arrays of the search one after the other, and returns their size in bytes.
int64_t lay_out(Search& s, void* workspace) {
  auto* begin = static_cast<uint8_t*>(workspace);
  int64_t size = 0;
  const auto take = [&](auto*& array, int64_t count) {
    array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(begin + size);
    size += divide_up(count * static_cast<int64_t>(sizeof(*array)), 16) * 16;
  };
  const int64_t batch = s.queries.batch;
  take(s.parts, batch * s.num_parts);
  take(s.waiting, batch * s.capacity);
  take(s.finalists, batch * s.most_finalists);
  take(s.results, batch * 2 * s.result_size);
  take(s.codes, s.num_vectors * code_stride(s.catalog.dim));
  take(s.vectors, s.num_vectors);
  take(s.bounds, batch);
  return size;
}
}  // namespace
}  // namespace lsif::cuda
