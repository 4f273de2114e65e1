// The score bonus of items that are already in the history                           (docs/model.md, 5)
#pragma once

#include <cstdint>

#include "engine/encode.h"
#include "engine/model.h"
#include "engine/scratch.h"

namespace lsif::engine {

// Ragged: user b owns the entries offsets[b] .. offsets[b + 1] - 1.
struct RepeatBonuses {
  int64_t* rows;  // the distinct items of each history, ascending
  float* values;
  int64_t* offsets;  // [batch + 1]
  int64_t batch;

  int64_t size() const { return offsets[batch]; }
};

// In memory of `scratch`. The newest state of user b is at newest + b * stride. events have passed check_events, and
// the config has `repeats`. Sums are in double, rounded once; a user's result does not depend on the rest of the batch
// or the number of threads.
RepeatBonuses repeat_bonuses(const Model& model, const EventBatch& events, const float* newest, int64_t stride,
                             int threads, Scratch& scratch);

}  // namespace lsif::engine
