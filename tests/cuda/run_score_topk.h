// score_topk's tests on the CUDA kernels: what the op does between a request and the launcher.
#pragma once

#include <memory>

#include "device_array.h"
#include "engine/excluded.h"
#include "engine/score_checks.h"
#include "engine/thread_pool.h"
#include "kernels/cuda/launch.h"

namespace score_topk_test {

// The codes of a catalogue on the device; cells and regions are not read.
class DeviceCatalog {
 public:
  explicit DeviceCatalog(const lsif::CatalogView& host)
      : vectors_(host.vectors, host.num_items * host.dim),
        bias_(host.bias, host.num_items),
        groups_(host.codes.groups, lsif::num_groups(host.num_items) * lsif::group_bytes(host.dim)),
        order_(host.codes.order, 4 * host.num_items),
        view_(host) {
    view_.vectors = vectors_.data();
    view_.bias = bias_.data();
    view_.codes.groups = groups_.data();
    view_.codes.order = order_.data();
    view_.codes.cells = view_.codes.regions = nullptr;
  }

  const lsif::CatalogView& view() const { return view_; }

 private:
  device::Array<float> vectors_;
  device::Array<float> bias_;
  device::Array<uint8_t> groups_;
  device::Array<uint8_t> order_;
  lsif::CatalogView view_;
};

// Exclusions and bitmaps on the device.
class DeviceFilters {
 public:
  DeviceFilters(const lsif::engine::ScoreTopkRequest& request, int64_t num_items) {
    lsif::engine::Scratch scratch;
    const lsif::engine::RaggedRows unwanted = {request.exclude_items, request.exclude_offsets};
    const lsif::engine::Excluded excluded({&unwanted, 1}, request.batch, num_items, scratch);
    std::vector<const uint64_t*> bitmaps;
    for (int64_t user = 0; user < request.batch; ++user) {
      const uint64_t* bitmap = request.allowed == nullptr ? nullptr : request.allowed[user];
      bitmaps_.push_back(std::make_unique<device::Array<uint64_t>>(bitmap, (num_items + 63) / 64));
      bitmaps.push_back(bitmaps_.back()->data());
    }
    if (request.exclude_offsets != nullptr) {
      items_ = std::make_unique<device::Array<int64_t>>(excluded.items(), excluded.offsets()[request.batch]);
      offsets_ = std::make_unique<device::Array<int64_t>>(excluded.offsets(), request.batch + 1);
      filters_.exclude_items = items_->data();
      filters_.exclude_offsets = offsets_->data();
    }
    if (request.allowed == nullptr) return;
    allowed_ = std::make_unique<device::Array<const uint64_t*>>(bitmaps.data(), request.batch);
    filters_.allowed = allowed_->data();
  }

  const lsif::cuda::Filters& filters() const { return filters_; }

 private:
  std::unique_ptr<device::Array<int64_t>> items_;
  std::unique_ptr<device::Array<int64_t>> offsets_;
  std::vector<std::unique_ptr<device::Array<uint64_t>>> bitmaps_;
  std::unique_ptr<device::Array<const uint64_t*>> allowed_;
  lsif::cuda::Filters filters_;
};

// kept: what is left in the workspace.
inline void run_on_cuda(const lsif::CatalogView& catalog, const lsif::engine::ScoreTopkRequest& request, float* scores,
                        int64_t* indices, int64_t* counts, std::vector<unsigned char>* kept = nullptr) {
  lsif::engine::check_k(request.k);
  lsif::engine::check_threads(request.threads);
  lsif::engine::check_queries(catalog, request);
  const int64_t size = request.batch * request.k;
  const DeviceFilters filters(request, catalog.num_items);
  const DeviceCatalog on_device(catalog);
  const device::Array<float> vectors(request.vectors, request.batch * request.num_interests * catalog.dim);
  const device::Array<float> weights(request.weights, request.batch * request.num_interests);
  lsif::ScoreQueries queries = request;
  queries.vectors = vectors.data();
  queries.weights = weights.data();
  const int64_t bytes = lsif::cuda::score_topk_workspace_size(on_device.view(), queries, request.k);
  const device::Array<unsigned char> workspace(bytes);
  const device::Array<float> out_scores(size);
  const device::Array<int64_t> out_indices(size);
  const device::Array<int64_t> out_counts(request.batch);
  device::expect_success(lsif::cuda::score_topk(on_device.view(), queries, filters.filters(), request.k,
                                                workspace.data(), out_scores.data(), out_indices.data(),
                                                out_counts.data(), nullptr));
  out_scores.copy_to(scores);
  out_indices.copy_to(indices);
  out_counts.copy_to(counts);
  if (kept != nullptr) kept->resize(static_cast<size_t>(bytes)), workspace.copy_to(kept->data());
  for (int64_t i = 0; i < size; ++i) lsif::engine::check_score(scores[i], i / request.k, indices[i]);
}

}  // namespace score_topk_test
