// A catalogue on the CPU as the ops have it: torch.ops.lsif views one at every call, lsif_kept keeps one.
#pragma once

#include <optional>
#include <tuple>

#include "engine/score_topk.h"
#include "ops/catalog.h"

namespace lsif::ops {

// With codes.
CatalogView cpu_catalog(const Tensor& vectors, const std::optional<Tensor>& bias, const Tensor& codes);

// (scores, indices, counts), made like a tensor of the request's.
std::tuple<Tensor, Tensor, Tensor> run_score_topk(const CatalogView& catalog, const engine::ScoreTopkRequest& request,
                                                  const Tensor& like);
Tensor run_score_items(const CatalogView& catalog, const ScoreQueries& queries, const Tensor& items);

}  // namespace lsif::ops
