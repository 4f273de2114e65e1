// A catalogue and its users as the ops get them; shapes, types and places are checked, values are the engine's to
// check.
#pragma once

#include <optional>

#include "kernels/score_topk.h"
#include "ops/checks.h"

namespace lsif::ops {

// Without codes.
CatalogView catalog_view(const Tensor& vectors, const std::optional<Tensor>& bias, Place place = {});

// vectors: [batch, num_interests, dim]; without weights there is one interest.
ScoreQueries score_queries(const CatalogView& catalog, const Tensor& vectors, const std::optional<Tensor>& weights,
                           double temperature, Place place = {});

}  // namespace lsif::ops
