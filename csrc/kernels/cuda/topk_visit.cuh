// Common parts of the passes of score_topk.cu over the catalogue's codes: the position of a lane, and the handling of
// rows. The passes are in topk_visit_one.cuh, topk_visit_tiles.cuh and topk_visit_interests.cuh.
#pragma once

#include "kernels/cuda/exact_score.cuh"
#include "kernels/cuda/topk_plan.cuh"

namespace lsif::cuda {
namespace {

constexpr int64_t kScanBlocks = 2048;  // blocks that scan, if there are enough rows
constexpr int kWarps = kThreads / kWarp;
constexpr unsigned kAllLanes = 0xffffffffu;

// A thread's lane, and what it computes.
struct Lane {
  int lane;
  int g;  // computes rows 2 g and 2 g + 1 of a group
  int t;  // and columns 2 t and 2 t + 1 of a tile
};

__device__ Lane this_lane() {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  return {lane, lane / 4, lane % 4};
}

__device__ int64_t item_of_slot(const CatalogView& catalog, int64_t slot) {
  if (catalog.codes.order == nullptr) return slot;
  return reinterpret_cast<const int32_t*>(catalog.codes.order)[slot];
}

// A row whose bound is not below the query's threshold. The row or the query may be past the last one.
struct KeptRow {
  int64_t slot;
  uint32_t query;
  float upper;
};

// Appends the row to the query's list.
__device__ void keep_row(const Search& s, const KeptRow& row) {
  if (row.slot >= s.catalog.num_items || row.query >= s.queries.batch) return;
  const int64_t item = item_of_slot(s.catalog, row.slot);
  if (!is_allowed(s.filters, row.query, item)) return;
  const unsigned place = atomicAdd(&s.bounds[row.query].count, 1u);
  const float upper = row.upper == row.upper ? row.upper : kInfinity;
  if (place < s.capacity) s.waiting[row.query * s.capacity + place] = key_of(upper, item);
}

// Where prepare_query() writes a query.
struct PreparedQuery {
  VectorBound* vectors;  // [num_interests]
  int8_t* codes;         // [num_interests, code_stride(dim)]
  QueryBound* bound;
};

// By all threads of a block; only the first may read vectors and bound without a barrier.
__device__ void prepare_query(const Search& s, int64_t query, const PreparedQuery& to) {
  const int64_t num_interests = s.queries.num_interests;
  for (int64_t j = 0; j < num_interests; ++j) {
    VectorBound vector = {};
    const VectorSize size = code_vector(s.queries.vectors + (query * num_interests + j) * s.catalog.dim, s.catalog.dim,
                                        to.codes + j * code_stride(s.catalog.dim), vector);
    vector.norm = size.norm;
    vector.missed = size.error;
    if (threadIdx.x == 0) to.vectors[j] = vector;
  }
  if (threadIdx.x != 0) return;
  const float* weights = s.queries.weights == nullptr ? nullptr : s.queries.weights + query * num_interests;
  *to.bound = start_query(s.units, weights, s.queries.temperature, num_interests, to.vectors);
}

constexpr int kStashed = 2 * kWarp;

__device__ KeptRow* shared_stash() {
  __shared__ KeptRow rows[kWarps * kStashed];
  return rows + threadIdx.x / kWarp * kStashed;
}

// Rows that a warp has kept. They are appended to the lists many at a time: an atomic in global memory for each row
// would dominate the time. All threads of the warp call.
class Stash {
 public:
  // `those`: a mask of the lanes that have a row.
  __device__ void push(const Search& s, unsigned those, const KeptRow& row) {
    const unsigned me = 1u << threadIdx.x % kWarp;
    if (count_ + __popc(those) > kStashed) flush(s);
    if ((those & me) != 0) rows_[count_ + __popc(those & (me - 1))] = row;
    count_ += __popc(those);
  }

  __device__ void flush(const Search& s) {
    __syncwarp();
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x % kWarp); i < count_; i += kWarp) keep_row(s, rows_[i]);
    __syncwarp();
    count_ = 0;
  }

 private:
  KeptRow* rows_ = shared_stash();
  int count_ = 0;
};

// Handles the estimates of two rows for a query, by all threads of the warp; threads with the same t have the same
// query and group. The best row of the group enters the sample; the row's number replaces the last four bits of the
// estimate.
__device__ void sample_rows(const Search& s, int64_t query, int64_t part, const float (&estimate)[2], int g) {
  const bool is_used = query < s.queries.batch && part < s.num_parts;
  const int64_t first = part * s.sample_step * kGroupRows;
  uint32_t best = UINT32_MAX;
  for (int r = 0; r < 2; ++r) {
    const int64_t slot = first + 2 * g + r;
    if (!is_used || slot >= s.catalog.num_items || !(estimate[r] < kInfinity)) continue;
    if (s.filters.allowed != nullptr && !is_allowed(s.filters, query, item_of_slot(s.catalog, slot))) continue;
    const auto key = static_cast<uint32_t>(key_of(estimate[r], 0) >> 32) & ~15u;
    best = min(best, key | static_cast<uint32_t>(2 * g + r));
  }
  for (int offset = 4; offset < kWarp; offset *= 2) best = min(best, __shfl_xor_sync(kAllLanes, best, offset));
  if (g != 0 || !is_used) return;
  uint64_t key = kNoRow;
  if (best != UINT32_MAX) {
    key = static_cast<uint64_t>(best & ~15u) << 32 | static_cast<uint64_t>(item_of_slot(s.catalog, first + best % 16));
  }
  s.parts[query * s.num_parts + part] = key;
}

// The query data needed to bound rows, for one query with one interest.
struct OneQuery {
  VectorBound vector;
  const int8_t* codes;
  float bias_factor;
  float threshold;
};

__device__ OneQuery kept_query(const Search& s) {
  return {s.vectors[0], s.codes, s.bounds[0].bias_factor, s.bounds[0].threshold};
}

// The two passes: bounds of all groups, or estimates of every sample_step-th group.
struct Keep {
  static constexpr bool kIsBound = true;
  static constexpr bool kIsLone = false;    // topk_lone.cuh
  static constexpr bool kIsSpread = false;  // whether a block's parts are far apart

  __device__ static OneQuery query(const Search& s) { return kept_query(s); }

  __device__ static int64_t step(const Search&) { return 1; }
  __host__ __device__ static int64_t parts(const Search& s) { return num_groups(s.catalog.num_items); }
};

struct Sample {
  static constexpr bool kIsBound = false;
  static constexpr bool kIsLone = false;
  static constexpr bool kIsSpread = false;

  __device__ static OneQuery query(const Search& s) { return kept_query(s); }

  __device__ static int64_t step(const Search& s) { return s.sample_step; }
  __host__ __device__ static int64_t parts(const Search& s) { return s.num_parts; }
};

// The start of a part's codes; for parts past the last one, that of the last.
template <typename What>
__device__ const uint8_t* group_of(const Search& s, int64_t part) {
  return s.catalog.codes.groups + smaller(part, What::parts(s) - 1) * What::step(s) * group_bytes(s.catalog.dim);
}

}  // namespace
}  // namespace lsif::cuda
