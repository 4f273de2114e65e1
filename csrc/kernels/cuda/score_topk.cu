// Exact top-K from 4-bit codes                                                             (docs/cuda.md, "score_topk")
//
// A sample of the rows gives each query a threshold: the K-th best of K rows' exact scores. One pass over the codes, by
// matrix instructions, keeps the rows whose upper bound is not below it; only these are written out, then scored
// exactly, and the K best selected. A query that keeps more rows than there is room for is answered by exact scores of
// all rows. Compiled with -fmad=false: see exact_score.cuh.
#include <type_traits>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/exact_score.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/topk_bounds.cuh"
#include "kernels/cuda/topk_keys.cuh"

namespace lsif::cuda {
namespace {

constexpr int64_t kLeastParts = 4096;  // of a sample, and so many times k
constexpr int64_t kPartsPerResult = 8;
constexpr int64_t kMaxSampleStep = 32;
constexpr int64_t kLeastCapacity = 16384;  // rows of a query that may wait, so many for each result,
constexpr int64_t kCapacityPerResult = 64;
constexpr int64_t kRowsPerCapacity = 64;  // and one of so many
constexpr int64_t kScanTasks = 8192;      // warps at least that scan, where there are as many rows
constexpr int64_t kMaxTaskGroups = 32;
constexpr int kSelectThreads = 1024;
constexpr int64_t kRescoreBlocks = 1024;
constexpr int kGroupsAtOnce = 2;
constexpr int kTilesAtOnce = 4;

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// What a search needs besides its arguments, and where it lies in the workspace.
struct Search {
  CatalogView catalog;
  ScoreQueries queries;
  Filters filters;
  CatalogUnits units;
  int64_t k;            // at most num_items
  int64_t num_vectors;  // of all queries together
  int64_t sample_step;  // every so manieth group is in the sample
  int64_t num_parts;    // the groups of the sample
  int64_t capacity;     // rows that may wait, of a query
  int64_t result_size;  // a power of two, at least k

  VectorBound* vectors;  // [num_vectors]
  QueryBound* bounds;    // [batch]
  int8_t* codes;         // [num_vectors, code_stride(dim)]
  uint64_t* parts;       // [batch, num_parts], the key of each part's most promising row, by its estimate
  uint64_t* waiting;     // [batch, capacity], rows, then their keys
  uint64_t* results;     // [batch, result_size]
};

Search plan(const CatalogView& catalog, const ScoreQueries& queries, int64_t k) {
  Search s = {};
  s.catalog = catalog;
  s.queries = queries;
  s.k = smaller(k, catalog.num_items);
  s.num_vectors = queries.batch * queries.num_interests;
  const int64_t groups = num_groups(catalog.num_items);
  const int64_t wanted = larger(kLeastParts, kPartsPerResult * s.k);
  s.sample_step = smaller(kMaxSampleStep, larger(1, groups / wanted));
  s.num_parts = divide_up(groups, s.sample_step);
  const int64_t capacity =
      larger(larger(kLeastCapacity, kCapacityPerResult * s.k), divide_up(catalog.num_items, kRowsPerCapacity));
  s.capacity = smaller(catalog.num_items, capacity);
  s.result_size = 1;
  while (s.result_size < s.k) s.result_size *= 2;
  return s;
}

// Gives the search its arrays, one behind the other, and returns their bytes.
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
  take(s.results, batch * s.result_size);
  take(s.codes, s.num_vectors * code_stride(s.catalog.dim));
  take(s.vectors, s.num_vectors);
  take(s.bounds, batch);
  return size;
}

// A block per query.
__global__ void prepare_kernel(Search s) {
  const int64_t query = blockIdx.x;
  const int64_t num_interests = s.queries.num_interests;
  VectorBound* vectors = s.vectors + query * num_interests;
  for (int64_t j = 0; j < num_interests; ++j) {
    const int64_t place = query * num_interests + j;
    VectorBound vector = {};
    const VectorSize size = code_vector(s.queries.vectors + place * s.catalog.dim, s.catalog.dim,
                                        s.codes + place * code_stride(s.catalog.dim), vector);
    vector.norm = size.norm;
    vector.missed = size.error;
    if (threadIdx.x == 0) vectors[j] = vector;
  }
  if (threadIdx.x != 0) return;
  const float* weights = s.queries.weights == nullptr ? nullptr : s.queries.weights + query * num_interests;
  s.bounds[query] = start_query(s.units, weights, s.queries.temperature, num_interests, vectors);
}

__device__ int64_t item_of_slot(const CatalogView& catalog, int64_t slot) {
  if (catalog.codes.order == nullptr) return slot;
  return reinterpret_cast<const int32_t*>(catalog.codes.order)[slot];
}

// A warp's place in its work.
struct Lane {
  int lane;
  int g;  // computes rows 2 g and 2 g + 1 of a group
  int t;  // and columns 2 t and 2 t + 1 of a tile
};

// Products of kGroups groups with kTiles tiles of vectors, which begin with first_vector; vectors past last_vector are
// that one again.
template <int kGroups, int kTiles>
__device__ void multiply(const Search& s, const uint8_t* const (&groups)[kGroups], int64_t first_vector,
                         int64_t last_vector, const Lane& me, MmaC (&sums)[kTiles][kGroups]) {
  const int64_t num_lines = group_lines(s.catalog.dim) - 1;
  const int64_t stride = code_stride(s.catalog.dim);
  const int8_t* codes[kTiles];
  __syncwarp();  // the matrix instruction wants all threads together, and what was before may have parted them
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const int64_t column = first_vector + tile * kMmaColumns;
    codes[tile] = s.codes + smaller(column + me.g, last_vector) * stride;
    const int32_t first = s.vectors[smaller(column + 2 * me.t, last_vector)].start;
    const int32_t second = s.vectors[smaller(column + 2 * me.t + 1, last_vector)].start;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) sums[tile][group] = {{first, second, first, second}};
  }
  // A few tiles leave registers for the loads of two steps, which then wait together.
  constexpr int kStepsAtOnce = kTiles == 1 ? 2 : 1;
#pragma unroll kStepsAtOnce
  for (int64_t step = 0; step < stride / kMmaDims; ++step) {
    MmaA rows[kGroups];
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      rows[group] = read_rows(groups[group] + kLineBytes, num_lines, step, me.lane);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const MmaB query = read_query(codes[tile], step, me.lane);
#pragma unroll
      for (int group = 0; group < kGroups; ++group) multiply_add(sums[tile][group], rows[group], query);
    }
  }
}

// What becomes of a row's bound (or, in a sample, estimate).
struct Keep {
  static constexpr bool kIsBound = true;

  __device__ static void rows(const Search& s, int64_t query, float threshold, int64_t group, bool,
                              const float (&upper)[2], int g) {
    for (int r = 0; r < 2; ++r) {
      if (upper[r] < threshold) continue;  // NaN stays
      const int64_t slot = group * kGroupRows + 2 * g + r;
      if (slot >= s.catalog.num_items) continue;
      const int64_t item = item_of_slot(s.catalog, slot);
      if (!is_allowed(s.filters, query, item)) continue;
      const unsigned place = atomicAdd(&s.bounds[query].count, 1u);
      if (place < s.capacity) s.waiting[query * s.capacity + place] = static_cast<uint64_t>(item);
    }
  }
};

struct Sample {
  static constexpr bool kIsBound = false;

  // All threads of the warp must call; those with the same t have the same query.
  __device__ static void rows(const Search& s, int64_t query, float, int64_t group, bool is_used,
                              const float (&estimate)[2], int g) {
    uint64_t best = kNoRow;
    for (int r = 0; r < 2; ++r) {
      const int64_t slot = group * kGroupRows + 2 * g + r;
      if (!is_used || slot >= s.catalog.num_items || !(estimate[r] < kInfinity)) continue;
      const int64_t item = item_of_slot(s.catalog, slot);
      const uint64_t key = key_of(estimate[r], item);
      if (key < best && is_allowed(s.filters, query, item)) best = key;
    }
    for (int offset = 4; offset < kWarp; offset *= 2) {
      const uint64_t other = __shfl_xor_sync(0xffffffffu, best, offset);
      if (other < best) best = other;
    }
    if (g == 0 && is_used) s.parts[query * s.num_parts + group / s.sample_step] = best;
  }
};

// A query with one interest, as a column of a tile.
struct Column {
  int64_t query;
  bool is_used;  // false: past the last one, which it repeats
  VectorBound vector;
  float bias_factor;
  float threshold;
};

__device__ Column read_column(const Search& s, int64_t column) {
  const int64_t query = smaller(column, s.num_vectors - 1);
  const QueryBound& bound = s.bounds[query];
  return {query, column < s.num_vectors, s.vectors[query], bound.bias_factor, bound.threshold};
}

template <typename What, int kGroups>
__device__ void visit_column(const Search& s, const Column& column, const int64_t (&groups)[kGroups],
                             const RowBounds (&rows)[kGroups], const MmaC (&sums)[kGroups], int c, int g) {
  if (What::kIsBound && !column.is_used) return;
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    float upper[2];
    for (int r = 0; r < 2; ++r) {
      const float bound = unscaled_bound<What::kIsBound>(column.vector, rows[group], r, sums[group].regs[2 * r + c]);
      upper[r] = fmaf(rows[group].scale[r], bound, rows[group].bias[r] * column.bias_factor);
    }
    What::rows(s, column.query, column.threshold, groups[group], column.is_used, upper, g);
  }
}

// Groups that are looked at together.
template <int kGroups>
struct Groups {
  int64_t index[kGroups];
  const uint8_t* lines[kGroups];
  RowBounds rows[kGroups];
};

// Columns are queries with one interest. `first` and `second`: the thread's, if there is one tile.
template <typename What, int kGroups, int kTiles>
__device__ void visit_tiles(const Search& s, const Groups<kGroups>& groups, int64_t first_query, const Column& first,
                            const Column& second, const Lane& me) {
  MmaC sums[kTiles][kGroups];
  multiply(s, groups.lines, first_query, s.num_vectors - 1, me, sums);
  if constexpr (kTiles == 1) {
    visit_column<What>(s, first, groups.index, groups.rows, sums[0], 0, me.g);
    visit_column<What>(s, second, groups.index, groups.rows, sums[0], 1, me.g);
  } else {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      for (int c = 0; c < 2; ++c) {
        const Column column = read_column(s, first_query + tile * kMmaColumns + 2 * me.t + c);
        visit_column<What>(s, column, groups.index, groups.rows, sums[tile], c, me.g);
      }
    }
  }
}

// Several interests a query: columns are its interests.
template <typename What, int kGroups>
__device__ void visit_query(const Search& s, const Groups<kGroups>& groups, int64_t query, const Lane& me) {
  const RowBounds(&rows)[kGroups] = groups.rows;
  const int64_t first_vector = query * s.queries.num_interests;
  const int64_t last_vector = first_vector + s.queries.num_interests - 1;
  float unscaled[kGroups][2];  // max_j u_j / s and max_j (u_j + tau log w_j)
  float weighted[kGroups][2];
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    for (int r = 0; r < 2; ++r) unscaled[group][r] = weighted[group][r] = -kInfinity;
  }
  for (int64_t first = first_vector; first <= last_vector; first += kMmaColumns) {
    MmaC sums[1][kGroups];
    multiply(s, groups.lines, first, last_vector, me, sums);
    for (int c = 0; c < 2; ++c) {
      const VectorBound vector = s.vectors[smaller(first + 2 * me.t + c, last_vector)];
      if (vector.log_weight == -kInfinity) continue;
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        for (int r = 0; r < 2; ++r) {
          const float bound = unscaled_bound<What::kIsBound>(vector, rows[group], r, sums[0][group].regs[2 * r + c]);
          unscaled[group][r] = fmaxf(unscaled[group][r], bound);
          weighted[group][r] = fmaxf(weighted[group][r], fmaf(rows[group].scale[r], bound, vector.log_weight));
        }
      }
    }
  }
  const QueryBound& query_bound = s.bounds[query];
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    float upper[2];
    for (int r = 0; r < 2; ++r) {
      for (int offset = 1; offset < 4; offset *= 2) {
        unscaled[group][r] = fmaxf(unscaled[group][r], __shfl_xor_sync(0xffffffffu, unscaled[group][r], offset));
        weighted[group][r] = fmaxf(weighted[group][r], __shfl_xor_sync(0xffffffffu, weighted[group][r], offset));
      }
      const float by_total = fmaf(rows[group].scale[r], unscaled[group][r], query_bound.log_total);
      const float by_count = weighted[group][r] + query_bound.log_count;
      upper[r] = fminf(by_total, by_count) + rows[group].bias[r] * query_bound.bias_factor;
    }
    // The four threads of a row know the same.
    if (!What::kIsBound || me.t == 0) {
      What::rows(s, query, query_bound.threshold, groups.index[group], true, upper, me.g);
    }
  }
}

// A warp per task: some groups, of every group_step-th, times kTiles tiles of vectors, or one query with weights.
template <typename What, int kTiles, bool kHasWeights>
__global__ void __launch_bounds__(kThreads)
    visit_kernel(Search s, int64_t group_step, int64_t groups_per_task, int64_t num_tasks) {
  const int64_t task = global_thread() / kWarp;
  if (task >= num_tasks) return;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const Lane me = {lane, lane / 4, lane % 4};
  const int64_t columns = kHasWeights ? s.queries.batch : divide_up(s.num_vectors, kTiles * kMmaColumns);
  const int64_t first = task / columns * groups_per_task;
  const int64_t last = smaller(first + groups_per_task, divide_up(num_groups(s.catalog.num_items), group_step));
  const int64_t first_query = task % columns * (kHasWeights ? 1 : kTiles * kMmaColumns);
  const Column first_column = kHasWeights ? Column{} : read_column(s, first_query + 2 * me.t);
  const Column second_column = kHasWeights ? Column{} : read_column(s, first_query + 2 * me.t + 1);
  for (int64_t i = first; i < last; i += kGroupsAtOnce) {
    Groups<kGroupsAtOnce> groups;
#pragma unroll
    for (int group = 0; group < kGroupsAtOnce; ++group) {
      // Past the end the last one again, whose rows are there already: they are marked as none.
      const bool is_there = i + group < last;
      groups.index[group] = (is_there ? i + group : last - 1) * group_step;
      groups.lines[group] = s.catalog.codes.groups + groups.index[group] * group_bytes(s.catalog.dim);
      groups.rows[group] = read_bounds(s.units, groups.lines[group], me.g);
      if (What::kIsBound && !is_there) groups.index[group] = num_groups(s.catalog.num_items);
    }
    if constexpr (kHasWeights) {
      visit_query<What>(s, groups, first_query, me);
    } else {
      visit_tiles<What, kGroupsAtOnce, kTiles>(s, groups, first_query, first_column, second_column, me);
    }
  }
}

template <typename What, int kTiles, bool kHasWeights>
cudaError_t visit_in_tiles(const Search& s, int64_t group_step, cudaStream_t stream) {
  const int64_t columns = kHasWeights ? s.queries.batch : divide_up(s.num_vectors, kTiles * kMmaColumns);
  const int64_t groups = divide_up(num_groups(s.catalog.num_items), group_step);
  const int64_t fair = divide_up(groups * columns, kScanTasks * kGroupsAtOnce) * kGroupsAtOnce;
  const int64_t per_task = smaller(kMaxTaskGroups, fair);
  const int64_t tasks = divide_up(groups, per_task) * columns;
  return launch(visit_kernel<What, kTiles, kHasWeights>, divide_up(tasks, kThreads / kWarp), kThreads, stream, s,
                group_step, per_task, tasks);
}

template <typename What>
cudaError_t visit(const Search& s, int64_t group_step, cudaStream_t stream) {
  if (s.queries.weights != nullptr) return visit_in_tiles<What, 1, true>(s, group_step, stream);
  if (s.num_vectors <= kMmaColumns) return visit_in_tiles<What, 1, false>(s, group_step, stream);
  return visit_in_tiles<What, kTilesAtOnce, false>(s, group_step, stream);
}

__device__ unsigned* shared_worst() {
  __shared__ unsigned worst;
  return &worst;
}

// A block per query: k rows of the sample are scored exactly, those of the best estimates; all rows of the result score
// at least as much as the worst of them.
__global__ void __launch_bounds__(kSelectThreads) threshold_kernel(Search s) {
  const int64_t query = blockIdx.x;
  uint64_t* parts = s.parts + query * s.num_parts;
  unsigned* worst = shared_worst();
  for (int64_t i = threadIdx.x; i < s.num_parts; i += kSelectThreads) {
    if (parts[i] != kNoRow && is_excluded(s.filters, query, item_of(parts[i]))) parts[i] = kNoRow;
  }
  if (threadIdx.x == 0) *worst = 0;
  __syncthreads();
  if (s.num_parts < s.k) return;
  const uint64_t last = kth_smallest(parts, s.num_parts, s.k);
  if (last == kNoRow) return;  // too few
  for (int64_t i = threadIdx.x; i < s.num_parts; i += kSelectThreads) {
    if (parts[i] > last) continue;
    const int64_t item = item_of(parts[i]);
    atomicMax(worst, static_cast<unsigned>(key_of(exact_score(s.catalog, s.queries, query, item), item) >> 32));
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  // Scores beyond float32 are kept, too, and refused by those who asked: their bounds are not.
  const float score = score_of(static_cast<uint64_t>(*worst) << 32);
  s.bounds[query].threshold = threshold_of(s.bounds[query], fminf(score, FLT_MAX));
}

// The rows that wait get their keys; so many blocks a query.
__global__ void rescore_kernel(Search s, int64_t blocks_per_query) {
  const int64_t query = blockIdx.x / blocks_per_query;
  const int64_t count = s.bounds[query].count;
  if (count > s.capacity) return;
  uint64_t* waiting = s.waiting + query * s.capacity;
  for (int64_t i = blockIdx.x % blocks_per_query * kThreads + threadIdx.x; i < count;
       i += blocks_per_query * kThreads) {
    waiting[i] = exact_key(s.catalog, s.queries, s.filters, query, static_cast<int64_t>(waiting[i]));
  }
}

// Of n keys the k smallest, in any order and filled up with kNoRow, by a block of kSelectThreads.  to: [result_size]
__device__ void select_keys(const Search& s, const uint64_t* keys, int64_t n, uint64_t* to) {
  unsigned* count = shared_worst();
  const uint64_t last = n <= s.k ? kNoRow : kth_smallest(keys, n, s.k);
  for (int64_t i = threadIdx.x; i < s.result_size; i += kSelectThreads) to[i] = kNoRow;
  if (threadIdx.x == 0) *count = 0;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < n; i += kSelectThreads) {
    if (keys[i] <= last && keys[i] != kNoRow) to[atomicAdd(count, 1u)] = keys[i];
  }
  __syncthreads();
}

// All rows, scored exactly in pieces; leaves the k best among the `capacity` that wait, and returns how many these are.
__device__ int64_t score_all(const Search& s, int64_t query, uint64_t* waiting, uint64_t* results) {
  int64_t kept = 0;
  for (int64_t first = 0; first < s.catalog.num_items; first += s.capacity - s.k) {
    const int64_t count = smaller(s.capacity - s.k, s.catalog.num_items - first);
    for (int64_t i = threadIdx.x; i < count; i += kSelectThreads) {
      waiting[kept + i] = exact_key(s.catalog, s.queries, s.filters, query, first + i);
    }
    __syncthreads();
    select_keys(s, waiting, kept + count, results);
    kept = s.k;
    for (int64_t i = threadIdx.x; i < kept; i += kSelectThreads) waiting[i] = results[i];
    __syncthreads();
  }
  return kept;
}

struct Results {
  float* scores;
  int64_t* indices;
  int64_t* counts;
  int64_t k;
};

// A block per query.
__global__ void __launch_bounds__(kSelectThreads) select_kernel(Search s, Results out) {
  const int64_t query = blockIdx.x;
  uint64_t* waiting = s.waiting + query * s.capacity;
  uint64_t* results = s.results + query * s.result_size;
  int64_t count = s.bounds[query].count;
  if (count > s.capacity) count = score_all(s, query, waiting, results);
  uint64_t* sorted = s.result_size <= kSharedKeys ? shared_keys() : results;
  select_keys(s, waiting, count, sorted);
  sort_keys(sorted, s.result_size);
  for (int64_t i = threadIdx.x; i < out.k; i += kSelectThreads) {
    const uint64_t key = i < s.k ? sorted[i] : kNoRow;
    out.scores[query * out.k + i] = key == kNoRow ? 0.0f : score_of(key);
    out.indices[query * out.k + i] = key == kNoRow ? -1 : item_of(key);
  }
  if (threadIdx.x == 0) {
    out.counts[query] = partition_point(s.k, [&](int64_t i) { return sorted[i] != kNoRow; });
  }
}

// Where there are no rows.
__global__ void write_nothing_kernel(Results out, int64_t batch) {
  const int64_t place = global_thread();
  if (place < batch) out.counts[place] = 0;
  if (place >= batch * out.k) return;
  out.scores[place] = 0.0f;
  out.indices[place] = -1;
}

__global__ void score_items_kernel(CatalogView catalog, ScoreQueries queries, const int64_t* items,
                                   int64_t num_candidates, float* scores) {
  const int64_t place = global_thread();
  if (place >= queries.batch * num_candidates) return;
  scores[place] = exact_score(catalog, queries, place / num_candidates, items[place]);
}

cudaError_t search(const Search& s, const Results& out, cudaStream_t stream) {
  const int64_t batch = s.queries.batch;
  cudaError_t error = launch(prepare_kernel, batch, kThreads, stream, s);
  if (error == cudaSuccess) error = visit<Sample>(s, s.sample_step, stream);
  if (error == cudaSuccess) error = launch(threshold_kernel, batch, kSelectThreads, stream, s);
  if (error == cudaSuccess) error = visit<Keep>(s, 1, stream);
  const int64_t blocks = larger(1, smaller(divide_up(s.capacity, kThreads), kRescoreBlocks / batch));
  if (error == cudaSuccess) error = launch(rescore_kernel, batch * blocks, kThreads, stream, s, blocks);
  if (error == cudaSuccess) error = launch(select_kernel, batch, kSelectThreads, stream, s, out);
  return error;
}

}  // namespace

int64_t score_topk_workspace_size(const CatalogView& catalog, const ScoreQueries& queries, int64_t k) {
  Search s = plan(catalog, queries, k);
  return lay_out(s, nullptr);
}

cudaError_t score_topk(const CatalogView& catalog, const ScoreQueries& queries, const Filters& filters, int64_t k,
                       void* workspace, float* scores, int64_t* indices, int64_t* counts, cudaStream_t stream) {
  if (k < 1 || catalog.num_items > UINT32_MAX) return cudaErrorInvalidValue;
  if (queries.batch == 0) return cudaSuccess;
  const Results out = {scores, indices, counts, k};
  if (catalog.num_items == 0) {
    return launch(write_nothing_kernel, divide_up(queries.batch * k, kThreads), kThreads, stream, out, queries.batch);
  }
  Search s = plan(catalog, queries, k);
  lay_out(s, workspace);
  s.filters = filters;
  s.units = units_of(catalog.codes);
  return search(s, out, stream);
}

cudaError_t score_items(const CatalogView& catalog, const ScoreQueries& queries, const int64_t* items,
                        int64_t num_candidates, float* scores, cudaStream_t stream) {
  return launch(score_items_kernel, divide_up(queries.batch * num_candidates, kThreads), kThreads, stream, catalog,
                queries, items, num_candidates, scores);
}

}  // namespace lsif::cuda
