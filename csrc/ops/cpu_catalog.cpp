#include "ops/cpu_catalog.h"

#include <vector>

#include "engine/codes.h"
#include "engine/score_checks.h"

namespace lsif::ops {

CatalogView cpu_catalog(const Tensor& vectors, const std::optional<Tensor>& bias, const Tensor& codes) {
  CatalogView view = catalog_view(vectors, bias);
  const int64_t size = size_of("codes", codes, 1, 0);
  check_tensor("codes", codes, ScalarType::Byte, {size});
  view.codes = engine::view_codes(static_cast<const uint8_t*>(codes.const_data_ptr()), size, view.num_items, view.dim);
  return view;
}

std::tuple<Tensor, Tensor, Tensor> run_score_topk(const CatalogView& catalog, const engine::ScoreTopkRequest& request,
                                                  const Tensor& like) {
  engine::check_k(request.k);
  Tensor scores = new_floats(like, {request.batch, request.k});
  Tensor indices = new_ints(like, {request.batch, request.k});
  Tensor counts = new_ints(like, {request.batch});
  engine::score_topk(catalog, request, static_cast<float*>(scores.mutable_data_ptr()),
                     static_cast<int64_t*>(indices.mutable_data_ptr()),
                     static_cast<int64_t*>(counts.mutable_data_ptr()));
  return {scores, indices, counts};
}

Tensor run_score_items(const CatalogView& catalog, const ScoreQueries& queries, const Tensor& items) {
  const int64_t num_candidates = size_of("items", items, 2, 1);
  const int64_t* rows = ints("items", items, {queries.batch, num_candidates});
  const std::vector<int64_t> offsets = equal_offsets(queries.batch, num_candidates);
  Tensor scores = new_floats(items, {queries.batch, num_candidates});
  engine::score_items(catalog, queries, rows, offsets.data(), static_cast<float*>(scores.mutable_data_ptr()), 1);
  return scores;
}

}  // namespace lsif::ops
