// What users are encoded to, and how every encoding ends: from the newest states to the fused interest
//                                                                                    (docs/model.md, 3 and 4)
#pragma once

#include <cstdint>

#include "engine/model.h"
#include "engine/scratch.h"

namespace lsif::engine {

struct Encoded {
  float* fused;      // [batch, dim]
  float* interests;  // [batch, num_interests, dim]
  float* weights;    // [batch, num_interests]

  // That of user b alone.
  Encoded of(const ModelConfig& config, int64_t b) const;
};

// Zeros: what a user without events is encoded to.
void clear(const ModelConfig& config, const Encoded& user);

// What the fusion knows of a history beside its interests.
struct FusionContext {
  int64_t newest;  // the newest event's time, or kUnknownTime
  int64_t now;     // the request's, or kUnknownTime
  int64_t num_events;
};

// states: [num_states, dim], the newest ones, normalised, which the short-term interests are pooled from. Of the user's
// interests the long-term ones are there already; writes all else.
void fuse(const Model& model, const float* states, int64_t num_states, const FusionContext& context,
          const Encoded& user, Scratch& scratch);

}  // namespace lsif::engine
