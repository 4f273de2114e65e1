// y[r] = items[item[r]] + actions[action[r]]                                     (docs/model.md, 1)
//
// Gathers the vectors of events: a float32 sum of two terms, rounded once. items may be bfloat16 if there are no
// actions. Indices are NOT checked here; the caller has already checked them.
#pragma once

#include "kernels/types.h"

namespace lsif {

struct EmbeddingParams {
  const float* items;    // [num_items, dim]
  const float* actions;  // [num_actions + 1, dim], or null: no second term
  int64_t dim;
  const uint16_t* items_bf16 = nullptr;  // used instead of items if not null; actions is null then
};

// item, action: [num_rows]; num_rows may be 0. action is ignored if params.actions is null; a null action means that
// all are 0 (unknown).
using EmbeddingFn = void(const EmbeddingParams& params, const int64_t* item, const int64_t* action, int64_t num_rows,
                         float* y, int64_t y_stride);

}  // namespace lsif
