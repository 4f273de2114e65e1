// Exact top-K from 4-bit codes                                                             (docs/cuda.md, "score_topk")
//
// A sample of the rows gives each query a threshold: the K-th best exact score of some rows. One pass over the codes,
// with matrix instructions, keeps the rows whose upper bound is not below it. Only these are written out and scored
// exactly, and the K best of them selected. If a query keeps more rows than there is room for, all rows are scored
// exactly for it. Compiled with -fmad=false: see exact_score.cuh.
#include "kernels/cuda/exact_score.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/topk_plan.cuh"
#include "kernels/cuda/topk_visit_interests.cuh"
#include "kernels/cuda/topk_visit_one.cuh"
#include "kernels/cuda/topk_visit_tiles.cuh"

namespace lsif::cuda {
namespace {

constexpr int kManyThreads = 1024;
constexpr int kRowsAtOnce = kManyThreads / kScoreLanes;  // rows a block of kManyThreads scores at once
constexpr int64_t kRescoreBlocks = 512;
// From these on it pays to raise thresholds before rows are scored.
constexpr int64_t kRefinedBatch = 32;
constexpr int64_t kRefinedDim = 65;

// A block per query.
__global__ void prepare_kernel(Search s) {
  const int64_t query = blockIdx.x;
  const int64_t first = query * s.queries.num_interests;
  prepare_query(s, query, {s.vectors + first, s.codes + first * code_stride(s.catalog.dim), s.bounds + query});
}

// The index of a thread's row among those that a block of kManyThreads scores at once.
__device__ int score_place() { return static_cast<int>(threadIdx.x) / kScoreLanes; }
__device__ bool is_first_lane() { return threadIdx.x % kScoreLanes == 0; }

// Replaces keys by estimates or bounds by keys of exact scores, and calls see(key) for each.
template <typename See>
__device__ void score_keys(const Search& s, int64_t query, uint64_t* keys, int64_t n, See see) {
  for (int64_t first = 0; first < n; first += kRowsAtOnce) {
    const int64_t i = first + score_place();
    const uint64_t key = i < n ? keys[i] : kNoRow;
    const uint64_t exact = exact_key(s.catalog, s.queries, s.filters, query, item_of(key), key != kNoRow);
    __syncwarp();  // all eight lanes have read it
    if (i >= n || !is_first_lane()) continue;
    keys[i] = exact;
    see(exact);
  }
  __syncthreads();
}

// By all threads of a block. Scores exactly the best of n keys by estimates or bounds; these are more than k, if there
// are, because estimates are inexact. The k-th best score becomes the query's threshold.
__device__ void raise_threshold(const Search& s, int64_t query, uint64_t* keys, int64_t n) {
  if (n < s.k) return;
  for (int64_t i = threadIdx.x; i < n && s.filters.exclude_offsets != nullptr; i += kManyThreads) {
    if (keys[i] != kNoRow && is_excluded(s.filters, query, item_of(keys[i]))) keys[i] = kNoRow;
  }
  __syncthreads();
  const int64_t wanted = smaller(n, 2 * s.k);
  uint64_t* best = wanted <= kSharedKeys ? shared_keys() : s.results + query * 2 * s.result_size;
  const BlockKeys all = {keys, n};
  const unsigned count = gather_keys(all, kth_smallest(all, wanted), best);
  if (count < s.k) return;
  score_keys(s, query, best, count, [](uint64_t) {});
  const uint64_t last = kth_smallest({best, count}, s.k);
  QueryBound& bound = s.bounds[query];
  if (threadIdx.x == 0 && last < bound.last) {
    bound.last = last;
    bound.threshold = threshold_of(bound, last);
  }
  __syncthreads();
}

// A block per query: the threshold from the sample.
__global__ void __launch_bounds__(kManyThreads) threshold_kernel(Search s) {
  const int64_t query = blockIdx.x;
  raise_threshold(s, query, s.parts + query * s.num_parts, s.num_parts);
}

// A block per query: raises the threshold using the waiting rows, and drops those that are now below it.
__global__ void __launch_bounds__(kManyThreads) refine_kernel(Search s) {
  const int64_t query = blockIdx.x;
  uint64_t* waiting = s.waiting + query * s.capacity;
  QueryBound& bound = s.bounds[query];
  const int64_t count = bound.count;
  if (count > s.capacity) return;
  raise_threshold(s, query, waiting, count);
  const unsigned left = gather_keys({waiting, count}, key_of(bound.threshold, UINT32_MAX), waiting);
  if (threadIdx.x == 0) bound.count = left;
}

__device__ unsigned* shared_filled() {
  __shared__ unsigned filled;
  return &filled;
}

// If too many rows would wait, each block of the query scores a part of all rows and writes the k best of it to its
// part of the list; other keys there are set to kNoRow.
struct AllRows {
  int64_t parts;
  int64_t room;  // per part
};

__device__ AllRows all_rows(const Search& s, int64_t blocks_per_query) {
  const int64_t least_room = larger(2 * s.k, 2 * kRowsAtOnce);
  const int64_t parts = larger(1, smaller(blocks_per_query, s.capacity / least_room));
  return {parts, s.capacity / parts};
}

__device__ void score_part(const Search& s, int64_t query, int64_t part, const AllRows& all) {
  uint64_t* keys = s.waiting + query * s.capacity + part * all.room;
  const int64_t rows = divide_up(s.catalog.num_items, all.parts);
  const int64_t last = smaller((part + 1) * rows, s.catalog.num_items);
  unsigned* filled = shared_filled();
  uint64_t bound = kNoRow;  // keys that are not smaller are not among the k best
  const auto keep_best = [&](unsigned n) {
    bound = kth_smallest({keys, n}, s.k);
    const unsigned kept = gather_keys({keys, n}, bound, keys);
    if (threadIdx.x == 0) *filled = kept;
    __syncthreads();
  };
  if (threadIdx.x == 0) *filled = 0;
  __syncthreads();
  for (int64_t row = part * rows; row < last; row += kRowsAtOnce) {
    const int64_t item = row + score_place();
    const uint64_t key = exact_key(s.catalog, s.queries, s.filters, query, item, item < last);
    if (is_first_lane() && key < bound) keys[atomicAdd(filled, 1u)] = key;
    __syncthreads();
    const unsigned n = *filled;
    __syncthreads();  // the next rows are added to it
    if (n + kRowsAtOnce > all.room) keep_best(n);
  }
  if (*filled > s.k) keep_best(*filled);
  for (int64_t i = *filled + threadIdx.x; i < all.room; i += kManyThreads) keys[i] = kNoRow;
}

// Rows whose key is not above bound.last become finalists; they are few, so that selection is fast.
__device__ void score_waiting(const Search& s, int64_t query, int64_t block, int64_t blocks_per_query) {
  QueryBound& bound = s.bounds[query];
  const int64_t count = bound.count;
  uint64_t* waiting = s.waiting + query * s.capacity;
  const uint64_t last = bound.last;
  const auto tell = [&](uint64_t key) {
    if (key > last || last == kNoRow) return;
    const unsigned place = atomicAdd(&bound.finalists, 1u);
    if (place < s.most_finalists) s.finalists[query * s.most_finalists + place] = key;
  };
  for (int64_t first = block * kRowsAtOnce; first < count; first += blocks_per_query * kRowsAtOnce) {
    score_keys(s, query, waiting + first, smaller(kRowsAtOnce, count - first), tell);
  }
}

// Computes the keys of the waiting rows, with blocks_per_query blocks per query.
__global__ void __launch_bounds__(kManyThreads) rescore_kernel(Search s, int64_t blocks_per_query) {
  const int64_t query = blockIdx.x / blocks_per_query;
  const int64_t block = blockIdx.x % blocks_per_query;
  if (s.bounds[query].count <= s.capacity) return score_waiting(s, query, block, blocks_per_query);
  const AllRows all = all_rows(s, blocks_per_query);
  if (block < all.parts) score_part(s, query, block, all);
}

struct Results {
  float* scores;
  int64_t* indices;
  int64_t* counts;
  int64_t k;

  __device__ void write(int64_t query, int64_t place, uint64_t key) const {
    scores[query * k + place] = score_of(key);
    indices[query * k + place] = item_of(key);
  }

  // By all threads of a block: writes the count and clears the results past it.
  __device__ void finish(int64_t query, int64_t count) const {
    for (int64_t i = count + threadIdx.x; i < k; i += blockDim.x) {
      scores[query * k + i] = 0.0f;
      indices[query * k + i] = -1;
    }
    if (threadIdx.x == 0) counts[query] = count;
  }
};

// A block per query.
__global__ void __launch_bounds__(kManyThreads) select_kernel(Search s, Results out, int64_t blocks_per_query) {
  const int64_t query = blockIdx.x;
  const QueryBound& bound = s.bounds[query];
  const uint64_t* keys = s.waiting + query * s.capacity;
  int64_t count = bound.count;
  bool is_ranked = false;
  if (count > s.capacity) {
    const AllRows all = all_rows(s, blocks_per_query);
    count = all.parts * all.room;
  } else if (bound.finalists >= s.k && bound.finalists <= s.most_finalists) {
    keys = s.finalists + query * s.most_finalists;
    count = bound.finalists;
    is_ranked = count <= kRankedKeys;
  }
  if (is_ranked) {
    rank_keys({keys, count}, [&](unsigned rank, uint64_t key) {
      if (rank < s.k) out.write(query, rank, key);
    });
    out.finish(query, smaller(count, s.k));
    return;
  }
  uint64_t* sorted = s.result_size <= kSharedKeys ? shared_keys() : s.results + query * 2 * s.result_size;
  const uint64_t last = count <= s.k ? kNoRow : kth_smallest({keys, count}, s.k);
  const unsigned num_results = gather_keys({keys, count}, last, sorted);
  for (int64_t i = num_results + threadIdx.x; i < s.result_size; i += kManyThreads) sorted[i] = kNoRow;
  sort_keys(sorted, s.result_size);
  for (int64_t i = threadIdx.x; i < num_results; i += kManyThreads) out.write(query, i, sorted[i]);
  out.finish(query, num_results);
}

// For an empty catalogue.
__global__ void write_nothing_kernel(Results out, int64_t batch) {
  const int64_t place = global_thread();
  if (place < batch) out.counts[place] = 0;
  if (place >= batch * out.k) return;
  out.scores[place] = 0.0f;
  out.indices[place] = -1;
}

__global__ void score_items_kernel(CatalogView catalog, ScoreQueries queries, const int64_t* items,
                                   int64_t num_candidates, float* scores) {
  const int64_t place = global_thread() / kScoreLanes;
  const bool is_there = place < queries.batch * num_candidates;
  const float score = exact_score(catalog, queries, is_there ? place / num_candidates : 0, is_there ? items[place] : 0);
  if (is_there && is_first_lane()) scores[place] = score;
}

template <typename What>
cudaError_t visit(const Search& s, cudaStream_t stream) {
  if (s.queries.weights != nullptr) return visit_interests<What>(s, stream);
  return s.num_vectors == 1 ? visit_one<What>(s, stream) : visit_tiles<What>(s, stream);
}

// Collects the rows worth scoring exactly.
cudaError_t keep_rows(const Search& s, cudaStream_t stream) {
  const int64_t batch = s.queries.batch;
  cudaError_t error = launch(prepare_kernel, batch, kThreads, stream, s);
  if (error == cudaSuccess) error = visit<Sample>(s, stream);
  if (error == cudaSuccess) error = launch_shared(threshold_kernel, batch, kManyThreads, 0, stream, s);
  if (error == cudaSuccess) error = visit<Keep>(s, stream);
  return error;
}

cudaError_t search(const Search& s, const Results& out, cudaStream_t stream) {
  const int64_t batch = s.queries.batch;
  cudaError_t error = is_lone(s) ? keep_rows_of_lone(s, stream) : keep_rows(s, stream);
  if (error == cudaSuccess && (batch >= kRefinedBatch || s.catalog.dim >= kRefinedDim)) {
    error = launch_shared(refine_kernel, batch, kManyThreads, 0, stream, s);
  }
  const int64_t blocks = larger(1, smaller(divide_up(s.capacity, kRowsAtOnce), kRescoreBlocks / batch));
  if (error == cudaSuccess) error = launch_shared(rescore_kernel, batch * blocks, kManyThreads, 0, stream, s, blocks);
  if (error == cudaSuccess) error = launch_shared(select_kernel, batch, kManyThreads, 0, stream, s, out, blocks);
  return error;
}

// The queries from `first` on, as many as are searched together.
Search part_of(const Search& whole, const ScoreQueries& queries, const Filters& filters, int64_t first) {
  Search s = whole;
  s.queries.batch = smaller(whole.queries.batch, queries.batch - first);
  s.num_vectors = s.queries.batch * queries.num_interests;
  s.queries.vectors += first * queries.num_interests * s.catalog.dim;
  if (queries.weights != nullptr) s.queries.weights += first * queries.num_interests;
  s.filters = filters;
  if (filters.exclude_offsets != nullptr) s.filters.exclude_offsets += first;
  if (filters.allowed != nullptr) s.filters.allowed += first;
  return s;
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
  s.units = units_of(catalog.codes);
  cudaError_t error = cudaSuccess;
  for (int64_t first = 0; first < queries.batch && error == cudaSuccess; first += s.queries.batch) {
    const Results part = {scores + first * k, indices + first * k, counts + first, k};
    error = search(part_of(s, queries, filters, first), part, stream);
  }
  return error;
}

cudaError_t score_items(const CatalogView& catalog, const ScoreQueries& queries, const int64_t* items,
                        int64_t num_candidates, float* scores, cudaStream_t stream) {
  return launch(score_items_kernel, divide_up(queries.batch * num_candidates * kScoreLanes, kThreads), kThreads, stream,
                catalog, queries, items, num_candidates, scores);
}

}  // namespace lsif::cuda
