// The catalogue's ops on CUDA (docs/cuda.md); as in cuda_ops.cpp, what is checked is copied to the host first.
// lsif_kept's (cuda_kept_ops.cpp) check no values.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "engine/codes.h"
#include "engine/excluded.h"
#include "engine/score_checks.h"
#include "engine/thread_pool.h"
#include "ops/catalog.h"
#include "ops/cuda_catalog.h"

namespace lsif::ops {
namespace {

// Queries are answered in groups whose workspace takes at most this, or one by one.
constexpr int64_t kWorkspaceBytes = int64_t{1} << 28;

// The engine's checks, on host copies.
void check_values(const CatalogView& catalog, const ScoreQueries& queries, const Tensor& vectors,
                  const std::optional<Tensor>& weights) {
  const Tensor host_vectors = on_host(vectors);
  const std::optional<Tensor> host_weights = weights ? std::optional(on_host(*weights)) : std::nullopt;
  ScoreQueries host = queries;
  host.vectors = static_cast<const float*>(host_vectors.const_data_ptr());
  host.weights = floats("weights", host_weights, {queries.batch, queries.num_interests});
  engine::check_queries(catalog, host);
}

// The kernels need codes at a multiple of 16 (launch.h); a slice of a longer tensor begins anywhere.
Tensor aligned(const Tensor& codes) {
  return reinterpret_cast<uintptr_t>(codes.const_data_ptr()) % 16 == 0 ? codes : torch::stable::clone(codes);
}

// Views codes in device memory, checked on copies of their header and order, which is all that view_codes reads.
CodesView codes_on(const DeviceArguments& on, const Tensor& codes, int64_t num_items, int64_t dim,
                   cudaStream_t stream) {
  const int64_t size = size_of("codes", codes, 1, 0);
  check_tensor("codes", codes, ScalarType::Byte, {size}, on.place());
  const auto* device = static_cast<const uint8_t*>(codes.const_data_ptr());
  // Zeros that are never touched take no memory.
  const std::unique_ptr<uint8_t, decltype(&std::free)> host(
      static_cast<uint8_t*>(std::calloc(static_cast<size_t>(std::max<int64_t>(size, 1)), 1)), &std::free);
  if (host == nullptr) throw std::bad_alloc();
  const auto copy = [&](int64_t begin, int64_t end) {
    check_launch(cudaMemcpyAsync(host.get() + begin, device + begin, static_cast<size_t>(end - begin),
                                 cudaMemcpyDeviceToHost, stream));
  };
  copy(0, std::min(size, kLineBytes));
  const int64_t order_bytes = divide_up(num_items * 4, kLineBytes) * kLineBytes;
  if (size == engine::codes_size(num_items, dim, true)) copy(size - order_bytes, size);
  check_launch(cudaStreamSynchronize(stream));
  CodesView view = engine::view_codes(host.get(), size, num_items, dim);
  const auto move = [&](const uint8_t*& part) {
    if (part != nullptr) part = device + (part - host.get());
  };
  move(view.groups);
  move(view.cells);
  move(view.regions);
  move(view.order);
  return view;
}

// Exclusions in ascending order on the device.
struct SortedExclusions {
  std::optional<Tensor> items;
  std::optional<Tensor> offsets;
  cuda::Filters filters;
};

Tensor to_device(const Tensor& like, const int64_t* values, int64_t count, cudaStream_t stream) {
  Tensor copy = new_ints(like, {count});
  check_launch(cudaMemcpyAsync(copy.mutable_data_ptr(), values, static_cast<size_t>(count) * sizeof(int64_t),
                               cudaMemcpyHostToDevice, stream));
  check_launch(cudaStreamSynchronize(stream));  // before `values` go
  return copy;
}

SortedExclusions exclusions_on(const DeviceArguments& on, const std::optional<Tensor>& items,
                               const std::optional<Tensor>& offsets, int64_t batch, int64_t num_items,
                               cudaStream_t stream) {
  check_both_or_none("exclude_offsets", offsets, "exclude_items", items);
  if (!items) return {};
  const int64_t total = size_of("exclude_items", *items, 1, 0);
  on.ints("exclude_items", *items, {total});
  on.ints("exclude_offsets", *offsets, {batch + 1});
  check_offsets("exclude_offsets", *offsets, total);
  const Tensor host_items = on_host(*items);
  const Tensor host_offsets = on_host(*offsets);
  const engine::RaggedRows unwanted = {static_cast<const int64_t*>(host_items.const_data_ptr()),
                                       static_cast<const int64_t*>(host_offsets.const_data_ptr())};
  engine::Scratch scratch;
  const engine::Excluded excluded({&unwanted, 1}, batch, num_items, scratch);
  SortedExclusions result = {to_device(*items, excluded.items(), excluded.offsets()[batch], stream),
                             to_device(*offsets, excluded.offsets(), batch + 1, stream),
                             {}};
  result.filters.exclude_items = static_cast<const int64_t*>(result.items->const_data_ptr());
  result.filters.exclude_offsets = static_cast<const int64_t*>(result.offsets->const_data_ptr());
  return result;
}

// scores and the rows they are of: [batch, count]; places that hold no row have the score 0.
void check_scores(const Tensor& scores, const Tensor& rows) {
  const Tensor host_scores = on_host(scores);
  const Tensor host_rows = on_host(rows);
  const int64_t count = scores.size(1);
  for (int64_t i = 0; i < scores.numel(); ++i) {
    engine::check_score(static_cast<const float*>(host_scores.const_data_ptr())[i], i / count,
                        static_cast<const int64_t*>(host_rows.const_data_ptr())[i]);
  }
}

std::tuple<Tensor, Tensor, Tensor> score_topk_cuda(Tensor queries, std::optional<Tensor> weights, double temperature,
                                                   Tensor vectors, std::optional<Tensor> bias, Tensor codes, int64_t k,
                                                   std::optional<Tensor> exclude_items,
                                                   std::optional<Tensor> exclude_offsets, int64_t threads) {
  const CudaCatalog catalog = view_catalog(vectors, bias, codes);
  const ScoreQueries users = queries_on(catalog, queries, weights, temperature);
  check_values(catalog.view, users, queries, weights);
  const OnDevice device(vectors);
  const SortedExclusions exclude = exclusions_on(DeviceArguments(vectors), exclude_items, exclude_offsets, users.batch,
                                                 catalog.view.num_items, device.stream);
  engine::check_threads(threads);
  engine::check_k(k, catalog.view.num_items);
  const auto results = run_score_topk(catalog, users, exclude.filters, k);
  check_scores(std::get<0>(results), std::get<1>(results));
  return results;
}

void check_item_rows(const Tensor& items, int64_t num_items) {
  const Tensor host = on_host(items);
  const std::vector<int64_t> offsets = equal_offsets(items.size(0), items.size(1));
  engine::check_score_rows("items", static_cast<const int64_t*>(host.const_data_ptr()), offsets.data(), items.size(0),
                           num_items);
}

Tensor score_items_cuda(Tensor queries, std::optional<Tensor> weights, double temperature, Tensor vectors,
                        std::optional<Tensor> bias, Tensor items) {
  const CudaCatalog catalog = view_catalog(vectors, bias);
  const ScoreQueries users = queries_on(catalog, queries, weights, temperature);
  check_values(catalog.view, users, queries, weights);
  DeviceArguments(vectors).ints("items", items, {users.batch, size_of("items", items, 2, 1)});
  check_item_rows(items, catalog.view.num_items);
  const Tensor scores = run_score_items(catalog, users, items);
  check_scores(scores, items);
  return scores;
}

}  // namespace

CudaCatalog view_catalog(const Tensor& vectors, const std::optional<Tensor>& bias) {
  return {vectors, bias, std::nullopt, catalog_view(vectors, bias, device_of(vectors))};
}

CudaCatalog view_catalog(const Tensor& vectors, const std::optional<Tensor>& bias, const Tensor& codes) {
  CudaCatalog catalog = view_catalog(vectors, bias);
  const OnDevice device(vectors);
  catalog.codes = aligned(codes);
  catalog.view.codes =
      codes_on(DeviceArguments(vectors), *catalog.codes, catalog.view.num_items, catalog.view.dim, device.stream);
  return catalog;
}

ScoreQueries queries_on(const CudaCatalog& catalog, const Tensor& vectors, const std::optional<Tensor>& weights,
                        double temperature) {
  return score_queries(catalog.view, vectors, weights, temperature, device_of(catalog.vectors));
}

std::tuple<Tensor, Tensor, Tensor> run_score_topk(const CudaCatalog& catalog, const ScoreQueries& queries,
                                                  const cuda::Filters& all_filters, int64_t k) {
  const OnDevice device(catalog.vectors);
  const int64_t batch = queries.batch;
  Tensor scores = new_floats(catalog.vectors, {batch, k});
  Tensor indices = new_ints(catalog.vectors, {batch, k});
  Tensor counts = new_ints(catalog.vectors, {batch});
  ScoreQueries some = queries;
  some.batch = 1;
  const int64_t bytes_per_query = std::max<int64_t>(1, cuda::score_topk_workspace_size(catalog.view, some, k));
  const int64_t group = std::clamp<int64_t>(kWorkspaceBytes / bytes_per_query, 1, std::max<int64_t>(1, batch));
  some.batch = group;
  Tensor workspace = new_ints(catalog.vectors, {divide_up(cuda::score_topk_workspace_size(catalog.view, some, k),
                                                          static_cast<int64_t>(sizeof(int64_t)))});
  for (int64_t first = 0; first < batch; first += group) {
    some.batch = std::min(group, batch - first);
    some.vectors = queries.vectors + first * queries.num_interests * catalog.view.dim;
    if (queries.weights != nullptr) some.weights = queries.weights + first * queries.num_interests;
    cuda::Filters filters = all_filters;
    if (filters.exclude_offsets != nullptr) filters.exclude_offsets += first;
    if (filters.allowed != nullptr) filters.allowed += first;
    check_launch(cuda::score_topk(catalog.view, some, filters, k, workspace.mutable_data_ptr(),
                                  output(scores) + first * k,
                                  static_cast<int64_t*>(indices.mutable_data_ptr()) + first * k,
                                  static_cast<int64_t*>(counts.mutable_data_ptr()) + first, device.stream));
  }
  return {scores, indices, counts};
}

Tensor run_score_items(const CudaCatalog& catalog, const ScoreQueries& queries, const Tensor& items) {
  const int64_t num_candidates = size_of("items", items, 2, 1);
  const int64_t* rows = DeviceArguments(catalog.vectors).ints("items", items, {queries.batch, num_candidates});
  const OnDevice device(catalog.vectors);
  Tensor scores = new_floats(catalog.vectors, {queries.batch, num_candidates});
  check_launch(cuda::score_items(catalog.view, queries, rows, num_candidates, output(scores), device.stream));
  return scores;
}

STABLE_TORCH_LIBRARY_IMPL(lsif, CUDA, m) {
  m.impl("score_topk", TORCH_BOX(&score_topk_cuda));
  m.impl("score_items", TORCH_BOX(&score_items_cuda));
}

}  // namespace lsif::ops
