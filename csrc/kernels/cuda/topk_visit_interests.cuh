// Queries with weights: the columns of a product are the interests of one query.
#pragma once

#include "kernels/cuda/topk_visit.cuh"

namespace lsif::cuda {
namespace {

constexpr int64_t kScanTasks = 8192;  // the least number of warps that scan, if there are enough rows
constexpr int64_t kMaxTaskGroups = 32;
constexpr int kGroupsAtOnce = 2;

// Products of several groups with a tile of vectors from first_vector on; vectors past last_vector are replaced by it.
__device__ void multiply(const Search& s, const uint8_t* const (&groups)[kGroupsAtOnce], int64_t first_vector,
                         int64_t last_vector, const Lane& me, MmaC (&sums)[kGroupsAtOnce]) {
  const int num_lines = static_cast<int>(group_lines(s.catalog.dim)) - 1;
  const int64_t stride = code_stride(s.catalog.dim);
  __syncwarp();  // the matrix instruction needs the warp converged, and it may have diverged
  const int8_t* codes = s.codes + smaller(first_vector + me.g, last_vector) * stride;
  const int32_t first = s.vectors[smaller(first_vector + 2 * me.t, last_vector)].start;
  const int32_t second = s.vectors[smaller(first_vector + 2 * me.t + 1, last_vector)].start;
#pragma unroll
  for (int group = 0; group < kGroupsAtOnce; ++group) sums[group] = {{first, second, first, second}};
  // So that the loads of two steps overlap.
#pragma unroll 2
  for (int step = 0; step < static_cast<int>(stride) / kMmaDims; ++step) {
    const MmaB query = read_query(codes, step, me.lane);
#pragma unroll
    for (int group = 0; group < kGroupsAtOnce; ++group) {
      const MmaA rows = unpack(read_pair(groups[group] + kLineBytes, num_lines, step, me.lane));
      sums[group] = multiply_add(sums[group], rows, query);
    }
  }
}

// Groups that are processed together.
struct GroupSet {
  int64_t first;  // part
  const uint8_t* lines[kGroupsAtOnce];
  RowBounds rows[kGroupsAtOnce];
};

template <typename What>
__device__ void visit_query(const Search& s, const GroupSet& groups, int64_t query, const Lane& me) {
  const RowBounds(&rows)[kGroupsAtOnce] = groups.rows;
  const int64_t first_vector = query * s.queries.num_interests;
  const int64_t last_vector = first_vector + s.queries.num_interests - 1;
  float unscaled[kGroupsAtOnce][2];  // max_j u_j / s and max_j (u_j + tau log w_j)
  float weighted[kGroupsAtOnce][2];
#pragma unroll
  for (int group = 0; group < kGroupsAtOnce; ++group) {
    for (int r = 0; r < 2; ++r) unscaled[group][r] = weighted[group][r] = -kInfinity;
  }
  for (int64_t first = first_vector; first <= last_vector; first += kMmaColumns) {
    MmaC sums[kGroupsAtOnce];
    multiply(s, groups.lines, first, last_vector, me, sums);
    for (int c = 0; c < 2; ++c) {
      const VectorBound vector = s.vectors[smaller(first + 2 * me.t + c, last_vector)];
      if (vector.log_weight == -kInfinity) continue;
#pragma unroll
      for (int group = 0; group < kGroupsAtOnce; ++group) {
        for (int r = 0; r < 2; ++r) {
          const auto dot = static_cast<float>(sums[group].regs[2 * r + c]);
          const float bound = unscaled_bound<What::kIsBound>(vector, rows[group], r, dot);
          unscaled[group][r] = fmaxf(unscaled[group][r], bound);
          weighted[group][r] = fmaxf(weighted[group][r], fmaf(rows[group].scale[r], bound, vector.log_weight));
        }
      }
    }
  }
  const QueryBound& query_bound = s.bounds[query];
#pragma unroll
  for (int group = 0; group < kGroupsAtOnce; ++group) {
    float values[2];
    for (int r = 0; r < 2; ++r) {
      for (int offset = 1; offset < 4; offset *= 2) {
        unscaled[group][r] = fmaxf(unscaled[group][r], __shfl_xor_sync(kAllLanes, unscaled[group][r], offset));
        weighted[group][r] = fmaxf(weighted[group][r], __shfl_xor_sync(kAllLanes, weighted[group][r], offset));
      }
      const float by_total = fmaf(rows[group].scale[r], unscaled[group][r], query_bound.log_total);
      const float by_count = weighted[group][r] + query_bound.log_count;
      values[r] = fminf(by_total, by_count) + rows[group].bias[r] * query_bound.bias_factor;
    }
    const int64_t part = groups.first + group;
    if constexpr (!What::kIsBound) {
      sample_rows(s, query, part, values, me.g);
    } else if (me.t < 2 && !(me.t == 0 ? values[0] < query_bound.threshold : values[1] < query_bound.threshold)) {
      // The four threads of a row have the same values. NaN is kept.
      const float upper = me.t == 0 ? values[0] : values[1];
      keep_row(s, {part * kGroupRows + 2 * me.g + me.t, static_cast<uint32_t>(query), upper});
    }
  }
}

// A warp per task: some groups for one query.
template <typename What>
__global__ void __launch_bounds__(kThreads)
    visit_interests_kernel(Search s, int64_t groups_per_task, int64_t num_tasks) {
  const int64_t task = global_thread() / kWarp;
  if (task >= num_tasks) return;
  const Lane me = this_lane();
  const int64_t first = task / s.queries.batch * groups_per_task;
  const int64_t last = smaller(first + groups_per_task, What::parts(s));
  for (int64_t i = first; i < last; i += kGroupsAtOnce) {
    GroupSet groups;
    groups.first = i;
#pragma unroll
    for (int group = 0; group < kGroupsAtOnce; ++group) {
      groups.lines[group] = group_of<What>(s, i + group);
      groups.rows[group] = row_bounds(s.units, read_side(groups.lines[group], me.g));
    }
    visit_query<What>(s, groups, task % s.queries.batch, me);
  }
}

template <typename What>
cudaError_t visit_interests(const Search& s, cudaStream_t stream) {
  const int64_t groups = What::parts(s);
  const int64_t fair = divide_up(groups * s.queries.batch, kScanTasks * kGroupsAtOnce) * kGroupsAtOnce;
  const int64_t per_task = smaller(kMaxTaskGroups, fair);
  const int64_t tasks = divide_up(groups, per_task) * s.queries.batch;
  return launch_shared(visit_interests_kernel<What>, divide_up(tasks, kWarps), kThreads, 0, stream, s, per_task, tasks);
}

}  // namespace
}  // namespace lsif::cuda
