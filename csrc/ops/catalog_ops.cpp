// The catalogue's ops: integer codes of rows, exact top-K, exact scores of given rows        (docs/score_topk.md)
#include "engine/codes.h"
#include "engine/float_rows.h"
#include "engine/refuse.h"
#include "engine/row_order.h"
#include "engine/score_checks.h"
#include "engine/thread_pool.h"
#include "ops/cpu_catalog.h"

namespace lsif::ops {
namespace {

Tensor new_codes(const Tensor& vectors, int64_t num_items, int64_t dim, bool is_ordered) {
  const int64_t size = engine::codes_size(num_items, dim, is_ordered);
  return torch::stable::new_empty(vectors, {&size, 1}, ScalarType::Byte);
}

Tensor code_catalog(Tensor vectors, std::optional<Tensor> bias, int64_t threads, std::optional<bool> ordered) {
  const int64_t num_items = size_of("vectors", vectors, 2, 0);
  const int64_t dim = size_of("vectors", vectors, 2, 1);
  const float* rows = floats("vectors", vectors, {num_items, dim});
  const float* biases = floats("bias", bias, {num_items});
  const int num_threads = engine::check_threads(threads);
  const int64_t shape[] = {num_items, dim};
  engine::require_finite("vectors", rows, shape, num_threads);
  engine::require_finite("bias", biases, {shape, 1}, num_threads);
  (void)engine::codes_size(num_items, dim);  // refuses dim
  const auto ordering = !ordered   ? engine::Ordering::kWherePaying
                        : *ordered ? engine::Ordering::kAlways
                                   : engine::Ordering::kNever;
  const engine::RowOrder order = engine::order_rows(rows, biases, num_items, dim, ordering, num_threads);
  Tensor codes = new_codes(vectors, num_items, dim, !order.rows.empty());
  engine::write_codes(rows, biases, num_items, dim, order, static_cast<uint8_t*>(codes.mutable_data_ptr()),
                      num_threads);
  return codes;
}

// Codes of a catalogue most of whose rows are coded already: see engine::update_codes. `codes` are of the first
// num_coded rows; those that did not change are not looked at.
Tensor update_codes(Tensor vectors, std::optional<Tensor> bias, Tensor codes, int64_t num_coded, Tensor changed,
                    int64_t threads) {
  const int64_t num_items = size_of("vectors", vectors, 2, 0);
  const int64_t dim = size_of("vectors", vectors, 2, 1);
  const float* rows = floats("vectors", vectors, {num_items, dim});
  const float* biases = floats("bias", bias, {num_items});
  const int64_t num_changed = size_of("changed", changed, 1, 0);
  const int64_t* stale = ints("changed", changed, {num_changed});
  const int num_threads = engine::check_threads(threads);
  if (num_coded < 0 || num_coded > num_items) {  // no tensor vouches for it, and the size of codes is computed from it
    engine::refuse("num_coded", "an integer in [0, " + std::to_string(num_items) + "]", std::to_string(num_coded));
  }
  const int64_t old_size = size_of("codes", codes, 1, 0);
  check_tensor("codes", codes, ScalarType::Byte, {old_size});
  const engine::CodedRows old = {static_cast<const uint8_t*>(codes.const_data_ptr()), old_size, num_coded};
  Tensor updated = new_codes(vectors, num_items, dim, engine::is_ordered(old, dim));
  engine::update_codes(old, rows, biases, num_items, dim, stale, num_changed,
                       static_cast<uint8_t*>(updated.mutable_data_ptr()), num_threads);
  return updated;
}

std::tuple<Tensor, Tensor, Tensor> score_topk(Tensor queries, std::optional<Tensor> weights, double temperature,
                                              Tensor vectors, std::optional<Tensor> bias, Tensor codes, int64_t k,
                                              std::optional<Tensor> exclude_items,
                                              std::optional<Tensor> exclude_offsets, int64_t threads) {
  const CatalogView catalog = cpu_catalog(vectors, bias, codes);
  engine::ScoreTopkRequest request{score_queries(catalog, queries, weights, temperature)};
  request.k = k;
  check_both_or_none("exclude_offsets", exclude_offsets, "exclude_items", exclude_items);
  if (exclude_items) {
    const int64_t total = size_of("exclude_items", *exclude_items, 1, 0);
    request.exclude_items = ints("exclude_items", *exclude_items, {total});
    request.exclude_offsets = ints("exclude_offsets", *exclude_offsets, {request.batch + 1});
    check_offsets("exclude_offsets", *exclude_offsets, total);
  }
  request.threads = engine::check_threads(threads);
  engine::check_k(k, catalog.num_items);
  return run_score_topk(catalog, request, vectors);
}

Tensor score_items(Tensor queries, std::optional<Tensor> weights, double temperature, Tensor vectors,
                   std::optional<Tensor> bias, Tensor items) {
  const CatalogView catalog = catalog_view(vectors, bias);
  return run_score_items(catalog, score_queries(catalog, queries, weights, temperature), items);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(lsif, m) {
  m.def("code_catalog(Tensor vectors, Tensor? bias, int threads, bool? ordered=None) -> Tensor");
  m.def(
      "update_codes(Tensor vectors, Tensor? bias, Tensor codes, int num_coded, Tensor changed, int threads) -> Tensor");
  m.def(
      "score_topk(Tensor queries, Tensor? weights, float temperature, Tensor vectors, Tensor? bias, Tensor codes, "
      "int k, Tensor? exclude_items, Tensor? exclude_offsets, int threads) "
      "-> (Tensor scores, Tensor indices, Tensor counts)");
  m.def(
      "score_items(Tensor queries, Tensor? weights, float temperature, Tensor vectors, Tensor? bias, Tensor items) "
      "-> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(lsif, CPU, m) {
  m.impl("code_catalog", TORCH_BOX(&code_catalog));
  m.impl("update_codes", TORCH_BOX(&update_codes));
  m.impl("score_topk", TORCH_BOX(&score_topk));
  m.impl("score_items", TORCH_BOX(&score_items));
}

}  // namespace lsif::ops
