// The passes of score_topk.cu over the catalogue's codes: products, bounds, and what becomes of them.
#pragma once

#include "kernels/cuda/exact_score.cuh"
#include "kernels/cuda/topk_plan.cuh"

namespace lsif::cuda {
namespace {

constexpr int64_t kScanTasks = 8192;  // warps at least that scan, where there are as many rows
constexpr int64_t kMaxTaskGroups = 32;
constexpr int kGroupsAtOnce = 2;
constexpr int kTilesAtOnce = 4;

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
  [[maybe_unused]] constexpr int kStepsAtOnce = kTiles == 1 ? 2 : 1;
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
}  // namespace
}  // namespace lsif::cuda
