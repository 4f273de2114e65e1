// Exact top-K from 4-bit codes                                                             (docs/cuda.md, "score_topk")
//
// A sample of the rows gives each query a threshold: the K-th best of K rows' exact scores. One pass over the codes, by
// matrix instructions, keeps the rows whose upper bound is not below it; only these are written out, then scored
// exactly, and the K best selected. A query that keeps more rows than there is room for is answered by exact scores of
// all rows. Compiled with -fmad=false: see exact_score.cuh.
#include "kernels/cuda/exact_score.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/topk_plan.cuh"
#include "kernels/cuda/topk_visit.cuh"

namespace lsif::cuda {
namespace {

constexpr int kSelectThreads = 1024;
constexpr int64_t kRescoreBlocks = 1024;

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
