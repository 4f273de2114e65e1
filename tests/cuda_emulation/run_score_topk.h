// score_topk's tests on the emulated CUDA kernels: what the op does between a request and the launcher.
#pragma once

#include <algorithm>

#include "engine/excluded.h"
#include "engine/score_checks.h"
#include "engine/thread_pool.h"
#include "fibers.h"
#include "guarded.h"
#include "kernels/cuda/launch.h"

namespace score_topk_test {

// A copy that begins where the launcher wants it to, in memory that notices a step past its end.
template <typename T>
guarded::Array<T> device_copy(const T* values, int64_t size) {
  constexpr int64_t kValues = 16 / sizeof(T) > 0 ? 16 / sizeof(T) : 1;
  guarded::Array<T> copy((size + kValues - 1) / kValues * kValues);
  std::copy_n(values, size, copy.data());
  return copy;
}

// kept: what is left in the workspace.
inline void run_on_cuda(const lsif::CatalogView& catalog, const lsif::engine::ScoreTopkRequest& request, float* scores,
                        int64_t* indices, int64_t* counts, std::vector<unsigned char>* kept = nullptr) {
  lsif::engine::check_k(request.k);
  lsif::engine::check_threads(request.threads);
  lsif::engine::check_queries(catalog, request);
  const lsif::engine::Excluded excluded(request, catalog.num_items);
  std::vector<int64_t> items;
  std::vector<int64_t> offsets = {0};
  for (int64_t user = 0; user < request.batch; ++user) {
    items.insert(items.end(), excluded.items(user), excluded.items(user) + excluded.size_of(user));
    offsets.push_back(static_cast<int64_t>(items.size()));
  }
  const lsif::cuda::Filters filters = {items.data(), request.exclude_offsets == nullptr ? nullptr : offsets.data(),
                                       request.allowed};
  lsif::CatalogView view = catalog;
  const auto groups =
      device_copy(catalog.codes.groups, lsif::num_groups(catalog.num_items) * lsif::group_bytes(catalog.dim));
  const auto order = device_copy(catalog.codes.order, catalog.codes.order == nullptr ? 0 : 4 * catalog.num_items);
  view.codes.groups = groups.data();
  if (catalog.codes.order != nullptr) view.codes.order = order.data();
  view.codes.cells = view.codes.regions = nullptr;
  emulated::take_next_order();
  guarded::Array<uint8_t> workspace(lsif::cuda::score_topk_workspace_size(view, request, request.k));
  CHECK(lsif::cuda::score_topk(view, request, filters, request.k, workspace.data(), scores, indices, counts, nullptr) ==
        cudaSuccess);
  CHECK(workspace.front_intact());
  if (kept != nullptr) kept->assign(workspace.data(), workspace.data() + workspace.size());
  for (int64_t i = 0; i < request.batch * request.k; ++i) {
    lsif::engine::check_score(scores[i], i / request.k, indices[i]);
  }
}

}  // namespace score_topk_test
