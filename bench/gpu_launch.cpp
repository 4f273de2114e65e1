// score_topk's launcher with a C interface, for bench/gpu_topk.py (ctypes). Built by tests/cuda/CMakeLists.txt.
#include <cuda_runtime_api.h>

#include <thread>

#include "engine/codes.h"
#include "kernels/cuda/launch.h"

using lsif::CatalogView;
using lsif::ScoreQueries;

extern "C" {

// Codes rows as they are; returns the bytes this takes, and with `codes` null does nothing else.
__attribute__((visibility("default"))) int64_t lsif_code(const float* vectors, int64_t num_items, int64_t dim,
                                                         uint8_t* codes) {
  const auto threads = static_cast<int>(std::thread::hardware_concurrency());
  if (codes != nullptr) lsif::engine::write_codes(vectors, nullptr, num_items, dim, {}, codes, threads);
  return lsif::engine::codes_size(num_items, dim);
}

__attribute__((visibility("default"))) int64_t lsif_workspace_size(int64_t num_items, int64_t dim, int64_t batch,
                                                                   int64_t k) {
  CatalogView catalog = {};
  catalog.num_items = num_items;
  catalog.dim = dim;
  ScoreQueries queries;
  queries.batch = batch;
  return lsif::cuda::score_topk_workspace_size(catalog, queries, k);
}

// host_codes: the same as `codes` on the device. Returns a cudaError_t.
__attribute__((visibility("default"))) int lsif_score_topk(const float* vectors, const uint8_t* codes,
                                                           const uint8_t* host_codes, int64_t size, int64_t num_items,
                                                           int64_t dim, const float* query_vectors, int64_t batch,
                                                           int64_t k, void* workspace, float* scores, int64_t* indices,
                                                           int64_t* counts, void* stream) {
  CatalogView catalog = {vectors, nullptr, lsif::engine::view_codes(host_codes, size, num_items, dim), num_items, dim};
  catalog.codes.groups = codes + (catalog.codes.groups - host_codes);
  ScoreQueries queries;
  queries.vectors = query_vectors;
  queries.batch = batch;
  return lsif::cuda::score_topk(catalog, queries, {}, k, workspace, scores, indices, counts,
                                static_cast<cudaStream_t>(stream));
}
}
