// Every row is scored exactly; a row and its score become one 64-bit key whose ascending order is the contract's order.
// A block sorts the keys of one tile of rows and keeps the k first; lists are then merged two by two. Keys of real rows
// are all different, so the result depends on nothing but the rows. Compiled with -fmad=false: the float64 sums round
// as on the CPU.
#include <cub/block/block_radix_sort.cuh>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/exact_dot.h"

namespace lsif::cuda {
namespace {

constexpr int kTileThreads = 256;
constexpr int kRowsPerThread = 8;
constexpr int64_t kTile = kTileThreads * kRowsPerThread;
constexpr uint64_t kNoRow = UINT64_MAX;  // sorts last

__device__ float exact_score(const CatalogView& catalog, const ScoreQueries& queries, int64_t query, int64_t item) {
  const int64_t dim = catalog.dim;
  const float* x = catalog.vectors + item * dim;
  const float* q = queries.vectors + query * queries.num_interests * dim;
  const double bias = catalog.bias == nullptr ? 0.0 : static_cast<double>(catalog.bias[item]);
  if (queries.weights == nullptr) return static_cast<float>(exact_dot(q, x, dim) + bias);
  const float* weights = queries.weights + query * queries.num_interests;
  double largest = -static_cast<double>(__builtin_inff());
  for (int64_t j = 0; j < queries.num_interests; ++j) {
    if (weights[j] > 0.0f) largest = fmax(largest, exact_dot(q + j * dim, x, dim));
  }
  // The products are computed again, as there is no place for them.
  double sum = 0.0;
  for (int64_t j = 0; j < queries.num_interests; ++j) {
    if (weights[j] == 0.0f) continue;
    sum += static_cast<double>(weights[j]) * exp((exact_dot(q + j * dim, x, dim) - largest) / queries.temperature);
  }
  return static_cast<float>(largest + queries.temperature * log(sum) + bias);
}

// Smaller for a higher score, then for a lower row; -0 equals 0.
__device__ uint64_t key_of(float score, int64_t item) {
  const uint32_t bits = __float_as_uint(score == 0.0f ? 0.0f : score);
  const uint32_t descending = (bits & 0x80000000u) != 0 ? bits : ~(bits | 0x80000000u);
  return static_cast<uint64_t>(descending) << 32 | static_cast<uint64_t>(item);
}

__device__ float score_of(uint64_t key) {
  const auto descending = static_cast<uint32_t>(key >> 32);
  return __uint_as_float((descending & 0x80000000u) != 0 ? descending : ~descending & 0x7fffffffu);
}

__device__ int64_t item_of(uint64_t key) { return static_cast<int64_t>(key & 0xffffffffu); }

// How the sorted lists of keys lie in the workspace: [batch, count, size].
struct Lists {
  uint64_t* keys;
  int64_t count;
  int64_t size;
};

// A block per query and tile.
__global__ void __launch_bounds__(kTileThreads)
    sort_tiles_kernel(CatalogView catalog, ScoreQueries queries, Exclusions exclude, Lists out) {
  using Sort = cub::BlockRadixSort<uint64_t, kTileThreads, kRowsPerThread>;
  __shared__ typename Sort::TempStorage storage;
  __shared__ bool is_excluded[kTile];
  const int64_t query = blockIdx.x / out.count;
  const int64_t first_item = blockIdx.x % out.count * kTile;
  for (int64_t i = threadIdx.x; i < kTile; i += kTileThreads) is_excluded[i] = false;
  __syncthreads();
  if (exclude.offsets != nullptr) {
    for (int64_t i = exclude.offsets[query] + threadIdx.x; i < exclude.offsets[query + 1]; i += kTileThreads) {
      const int64_t place = exclude.items[i] - first_item;
      if (place >= 0 && place < kTile) is_excluded[place] = true;
    }
  }
  __syncthreads();
  uint64_t keys[kRowsPerThread];
#pragma unroll
  for (int r = 0; r < kRowsPerThread; ++r) {
    const int place = r * kTileThreads + static_cast<int>(threadIdx.x);
    const int64_t item = first_item + place;
    const bool is_row = item < catalog.num_items && !is_excluded[place];
    keys[r] = is_row ? key_of(exact_score(catalog, queries, query, item), item) : kNoRow;
  }
  Sort(storage).SortBlockedToStriped(keys);
  uint64_t* list = out.keys + blockIdx.x * out.size;
#pragma unroll
  for (int r = 0; r < kRowsPerThread; ++r) {
    const int64_t rank = r * kTileThreads + static_cast<int>(threadIdx.x);
    if (rank < out.size) list[rank] = keys[r];
  }
}

// Two neighbouring lists become one, cut to out.size; a thread per key, which finds its place by its rank in the other
// list.
__global__ void merge_kernel(Lists in, Lists out, int64_t batch) {
  const int64_t place = global_thread();
  if (place >= batch * in.count * in.size) return;
  const int64_t i = place % in.size;
  const int64_t list = place / in.size % in.count;
  const int64_t query = place / in.size / in.count;
  const uint64_t key = in.keys[place];
  int64_t rank = i;
  const int64_t other = list ^ 1;
  if (other < in.count) {
    const uint64_t* others = in.keys + (query * in.count + other) * in.size;
    // Equal keys, which are kNoRow, come first from the first list.
    rank += partition_point(in.size, [&](int64_t j) { return others[j] < key || (others[j] == key && other < list); });
  }
  uint64_t* to = out.keys + (query * out.count + list / 2) * out.size;
  if (rank < out.size) to[rank] = key;
  // A list without a neighbour is filled up; out.size is at most 2 * in.size.
  if (other >= in.count && in.size + i < out.size) to[in.size + i] = kNoRow;
}

// A thread per result.
__global__ void write_kernel(const uint64_t* keys, int64_t num_kept, int64_t batch, int64_t k, float* scores,
                             int64_t* indices, int64_t* counts) {
  const int64_t place = global_thread();
  if (place >= batch * k) return;
  const int64_t query = place / k;
  const int64_t rank = place % k;
  const uint64_t* list = keys + query * num_kept;
  const uint64_t key = rank < num_kept ? list[rank] : kNoRow;
  scores[place] = key == kNoRow ? 0.0f : score_of(key);
  indices[place] = key == kNoRow ? -1 : item_of(key);
  if (rank == 0) counts[query] = partition_point(num_kept, [&](int64_t i) { return list[i] != kNoRow; });
}

__global__ void score_items_kernel(CatalogView catalog, ScoreQueries queries, const int64_t* items,
                                   int64_t num_candidates, float* scores) {
  const int64_t place = global_thread();
  if (place >= queries.batch * num_candidates) return;
  scores[place] = exact_score(catalog, queries, place / num_candidates, items[place]);
}

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace

int64_t score_topk_workspace_size(int64_t num_items, int64_t batch, int64_t k) {
  // After l rounds there are at most count / 2^l + 1 lists of min(num_kept, 2^l size) keys: at most count * size +
  // num_kept keys.
  const int64_t num_kept = smaller(k, num_items);
  const int64_t keys = divide_up(num_items, kTile) * smaller(num_kept, kTile) + num_kept;
  return 2 * batch * keys * static_cast<int64_t>(sizeof(uint64_t));
}

cudaError_t score_topk(const CatalogView& catalog, const ScoreQueries& queries, const Exclusions& exclude, int64_t k,
                       void* workspace, float* scores, int64_t* indices, int64_t* counts, cudaStream_t stream) {
  if (k < 1 || catalog.num_items > UINT32_MAX) return cudaErrorInvalidValue;
  const int64_t batch = queries.batch;
  const int64_t num_kept = smaller(k, catalog.num_items);
  auto* first = static_cast<uint64_t*>(workspace);
  uint64_t* second =
      first + score_topk_workspace_size(catalog.num_items, batch, k) / 2 / static_cast<int64_t>(sizeof(uint64_t));
  Lists lists = {first, divide_up(catalog.num_items, kTile), smaller(num_kept, kTile)};
  cudaError_t error =
      launch(sort_tiles_kernel, batch * lists.count, kTileThreads, stream, catalog, queries, exclude, lists);
  while (error == cudaSuccess && lists.count > 1) {
    const Lists merged = {lists.keys == first ? second : first, divide_up(lists.count, 2),
                          smaller(num_kept, 2 * lists.size)};
    error = launch(merge_kernel, divide_up(batch * lists.count * lists.size, kThreads), kThreads, stream, lists, merged,
                   batch);
    lists = merged;
  }
  if (error != cudaSuccess) return error;
  return launch(write_kernel, divide_up(batch * k, kThreads), kThreads, stream, lists.keys, num_kept, batch, k, scores,
                indices, counts);
}

cudaError_t score_items(const CatalogView& catalog, const ScoreQueries& queries, const int64_t* items,
                        int64_t num_candidates, float* scores, cudaStream_t stream) {
  return launch(score_items_kernel, divide_up(queries.batch * num_candidates, kThreads), kThreads, stream, catalog,
                queries, items, num_candidates, scores);
}

}  // namespace lsif::cuda
