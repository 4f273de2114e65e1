// The encoding of users, and the last step of every encoder: from the newest states to the fused vector
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

  Encoded of(const ModelConfig& config, int64_t b) const;
};

// Sets all to zero: the encoding of a user without events.
void clear(const ModelConfig& config, const Encoded& user);

// What the fusion reads of a history besides its interests.
struct FusionContext {
  int64_t newest;  // the newest event's time, or kUnknownTime
  int64_t now;     // time of the request, or kUnknownTime
  int64_t num_events;
};

// states: [num_states, dim], the newest normalised states, from which the short-term interests are pooled. The
// long-term interests must already be in user.interests; this writes everything else.
void fuse(const Model& model, const float* states, int64_t num_states, const FusionContext& context,
          const Encoded& user, Scratch& scratch);

}  // namespace lsif::engine
