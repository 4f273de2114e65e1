// A catalogue on a GPU as the ops have it: torch.ops.lsif views one at every call, lsif_kept keeps one.
#pragma once

#include <optional>
#include <tuple>

#include "kernels/cuda/launch.h"
#include "ops/cuda_arguments.h"

namespace lsif::ops {

struct CudaCatalog {
  Tensor vectors;
  std::optional<Tensor> bias;
  std::optional<Tensor> codes;  // at a multiple of 16
  CatalogView view;
};

// Without codes.
CudaCatalog view_catalog(const Tensor& vectors, const std::optional<Tensor>& bias);

// With codes, checked on copies of their header and order; waits for the device.
CudaCatalog view_catalog(const Tensor& vectors, const std::optional<Tensor>& bias, const Tensor& codes);

// Shapes, types and places are checked.
ScoreQueries queries_on(const CudaCatalog& catalog, const Tensor& vectors, const std::optional<Tensor>& weights,
                        double temperature);

// Both wait for nothing, and return scores beyond float32 as infinities. score_topk: (scores, indices, counts).
std::tuple<Tensor, Tensor, Tensor> run_score_topk(const CudaCatalog& catalog, const ScoreQueries& queries,
                                                  const cuda::Filters& filters, int64_t k);
Tensor run_score_items(const CudaCatalog& catalog, const ScoreQueries& queries, const Tensor& items);

}  // namespace lsif::ops
