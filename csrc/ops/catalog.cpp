#include "ops/catalog.h"

#include <string>

#include "engine/refuse.h"

namespace lsif::ops {

CatalogView catalog_view(const Tensor& vectors, const std::optional<Tensor>& bias, Place place) {
  CatalogView view{};
  view.num_items = size_of("vectors", vectors, 2, 0);
  view.dim = size_of("vectors", vectors, 2, 1);
  view.vectors = floats("vectors", vectors, {view.num_items, view.dim}, place);
  view.bias = floats("bias", bias, {view.num_items}, place);
  return view;
}

ScoreQueries score_queries(const CatalogView& catalog, const Tensor& vectors, const std::optional<Tensor>& weights,
                           double temperature, Place place) {
  const int64_t batch = size_of("queries", vectors, 3, 0);
  const int64_t num_interests = size_of("queries", vectors, 3, 1);
  if (!weights && num_interests != 1) {
    engine::refuse("weights", "one per interest", "none for " + std::to_string(num_interests) + " interests");
  }
  return {floats("queries", vectors, {batch, num_interests, catalog.dim}, place),
          floats("weights", weights, {batch, num_interests}, place), temperature, batch, num_interests};
}

}  // namespace lsif::ops
