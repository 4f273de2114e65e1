// From a batch of histories to interests, their weights and the fused user vectors        (docs/model.md, 1 to 4)
#pragma once

#include <cstdint>

#include "engine/encoded.h"
#include "engine/model.h"

namespace lsif::engine {

// Ragged histories, oldest event first (docs/model.md, Inputs).
struct EventBatch {
  const int64_t* items;    // [total]
  const int64_t* times;    // [total], or null: all unknown
  const int64_t* actions;  // [total], or null: all unknown
  const int64_t* offsets;  // [batch + 1]
  const int64_t* now;      // [batch], or null: all unknown
  int64_t total;
  int64_t batch;
};

// Throws std::invalid_argument naming the first offset, item or action that cannot be used.
void check_events(const ModelConfig& config, const EventBatch& events);

// events have passed check_events. A user's result does not depend on the rest of the batch or the number of threads.
void encode(const Model& model, const EventBatch& events, int threads, const Encoded& out);

}  // namespace lsif::engine
