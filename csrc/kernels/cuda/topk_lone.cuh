// A single query with few results: two kernels instead of four before rows are scored exactly. Each block of the sample
// pass prepares the query itself and writes the key of its most promising row, by exact score. Each block of the pass
// over all rows finds the threshold from these keys itself, while its first codes are being loaded. A block has groups
// from all over the catalogue: adjacent rows may be similar, and of many good rows together it would keep only one.
#pragma once

#include "kernels/cuda/topk_visit.cuh"

namespace lsif::cuda {
namespace {

constexpr int64_t kCandidatesPerResult = 4;  // with fewer, the threshold would be too low
constexpr int kCandidatesOfThread = 6;
constexpr int64_t kMostCandidates = kCandidatesOfThread * kThreads;
constexpr int64_t kMostLoneResults = 100;  // each of 128 threads holds one candidate

constexpr int kShortDims = 2 * kMmaDims;

struct LoneQuery {
  VectorBound vector;
  QueryBound bound;
  alignas(16) int8_t codes[kShortDims];
};

__device__ LoneQuery& shared_query() {
  __shared__ LoneQuery query;
  return query;
}

__device__ uint64_t* shared_candidates() {
  __shared__ uint64_t keys[kWarps];
  return keys;
}

__device__ uint64_t* shared_bests() {
  __shared__ uint64_t keys[kThreads];
  return keys;
}

// A thread's most promising row among those that may be returned.
class Candidate {
 public:
  __device__ void see(const Search& s, int64_t part, const float (&estimates)[2], int g) {
    for (int r = 0; r < 2; ++r) {
      const int64_t slot = part * s.sample_step * kGroupRows + 2 * g + r;
      if (part >= s.num_parts || slot >= s.catalog.num_items || !(estimates[r] > estimate_)) continue;
      const int64_t item = item_of_slot(s.catalog, slot);
      if (!is_allowed(s.filters, 0, item) || is_excluded(s.filters, 0, item)) continue;
      estimate_ = estimates[r];
      key_ = key_of(estimate_, item);
    }
  }

  // Writes the block's best; by all of its threads.
  __device__ void leave(const Search& s) const {
    uint64_t* keys = shared_candidates();
    const auto best_of_warp = [](uint64_t key) {
      for (int offset = kWarp / 2; offset > 0; offset /= 2) {
        const uint64_t other = __shfl_xor_sync(kAllLanes, key, offset);
        key = other < key ? other : key;
      }
      return key;
    };
    __syncwarp();
    const uint64_t of_warp = best_of_warp(key_);
    if (threadIdx.x % kWarp == 0) keys[threadIdx.x / kWarp] = of_warp;
    __syncthreads();
    if (threadIdx.x >= kWarp) return;
    const uint64_t best = best_of_warp(threadIdx.x < kWarps ? keys[threadIdx.x] : kNoRow);
    const uint64_t exact = exact_key(s.catalog, s.queries, s.filters, 0, item_of(best), best != kNoRow);
    if (threadIdx.x == 0) s.parts[blockIdx.x] = exact;
  }

 private:
  float estimate_ = -kInfinity;
  uint64_t key_ = kNoRow;
};

// The k-th of the candidates' keys, or a slightly worse one: each thread of the block takes the best of several
// candidates, and the k-th of these is found by counting the smaller keys. By all threads of a block. kNoRow if there
// are fewer than k.
__device__ uint64_t kth_candidate(const Search& s) {
  uint64_t* best = shared_bests();
  uint64_t* last = shared_candidates();
  const auto me = static_cast<int>(threadIdx.x);
  uint64_t own[kCandidatesOfThread];
#pragma unroll
  for (int i = 0; i < kCandidatesOfThread; ++i) {
    const int place = me + i * kThreads;
    own[i] = place < s.num_candidates ? s.parts[place] : kNoRow;
  }
  for (int i = 1; i < kCandidatesOfThread; ++i) own[0] = own[i] < own[0] ? own[i] : own[0];
  best[me] = own[0];
  if (me == 0) *last = kNoRow;
  __syncthreads();
  int before = 0;
#pragma unroll 16
  for (int j = 0; j < kThreads; ++j) before += best[j] < own[0] ? 1 : 0;
  if (own[0] != kNoRow && before + 1 == s.k) *last = own[0];
  __syncthreads();
  return *last;
}

struct LoneSample : Sample {
  static constexpr bool kIsLone = true;
  static constexpr bool kIsSpread = true;

  __device__ static OneQuery query(const Search& s) {
    LoneQuery& own = shared_query();
    prepare_query(s, 0, {&own.vector, own.codes, &own.bound});
    __syncthreads();
    if (blockIdx.x == 0) {  // for the following kernels
      if (threadIdx.x == 0) s.vectors[0] = own.vector, s.bounds[0] = own.bound;
      for (int i = static_cast<int>(threadIdx.x); i < code_stride(s.catalog.dim); i += kThreads)
        s.codes[i] = own.codes[i];
    }
    return {own.vector, own.codes, own.bound.bias_factor, own.bound.threshold};
  }
};

struct LoneKeep : Keep {
  static constexpr bool kIsLone = true;

  __device__ static OneQuery query(const Search& s) {
    OneQuery one = kept_query(s);
    const uint64_t last = kth_candidate(s);
    one.threshold = threshold_of(s.bounds[0], last);
    if (blockIdx.x == 0 && threadIdx.x == 0) s.bounds[0].last = last;  // for the kernels that score the kept rows
    return one;
  }
};

}  // namespace
}  // namespace lsif::cuda
