// y[r] = items[item[r]] + actions[action[r]]                                     (docs/model.md, 1)
//
// Gathers the vectors of events. A float32 sum of two terms, rounded once; items may be bfloat16, without actions.
// Indices are NOT checked here: the caller has done it once.
#pragma once

#include "kernels/types.h"

namespace lsif {

struct EmbeddingParams {
  const float* items;    // [num_items, dim]
  const float* actions;  // [num_actions + 1, dim], or null: no second term
  int64_t dim;
  const uint16_t* items_bf16 = nullptr;  // in place of items; actions is null then
};

// item, action: [num_rows]; action is ignored if params.actions is null, and null means all 0 (unknown). num_rows may
// be 0.
using EmbeddingFn = void(const EmbeddingParams& params, const int64_t* item, const int64_t* action, int64_t num_rows,
                         float* y, int64_t y_stride);

}  // namespace lsif
