// One request from events to the top K: encode, fuse, score, in one call.
#pragma once

#include <cstdint>
#include <span>

#include "engine/encode.h"
#include "engine/model.h"
#include "engine/topk_batcher.h"
#include "engine/user_state.h"
#include "kernels/score_topk.h"

namespace lsif::engine {

// How interests become a score (docs/model.md, 5).
struct Scoring {
  bool multi_interest = false;
  double temperature = 1.0;
};

struct RecommendRequest {
  EventBatch events;  // have passed check_events
  int64_t k;
  bool exclude_seen;               // leave out the items of the user's own history
  const int64_t* exclude_items;    // further rows to leave out, ragged; or null
  const int64_t* exclude_offsets;  // [batch + 1]; null with exclude_items
  const uint64_t* const* allowed =
      nullptr;            // [batch] bitmaps of the rows that may be returned (ScoreTopkRequest); or null
  double balance = -1;    // weight all long-term interests together shall have, 0 to 1; below 0: the model's
  float error_share = 1;  // of the search (ScoreTopkRequest)
  int threads;
  TopkBatcher* batcher = nullptr;  // who searches, together with what other callers ask; null: this call alone
  TopkBatcher::Clock::time_point deadline = TopkBatcher::Clock::time_point::max();  // for the batcher to begin
};

struct Recommendations {
  float* scores;      // [batch, k]
  int64_t* indices;   // [batch, k], -1 past counts
  int64_t* counts;    // [batch]
  float* long_share;  // [batch], weight of the long-term interests, 0 to 1, the balance if there is one; 0 for an
                      // empty history
};

// Refuses a balance that is neither below 0 nor in [0, 1], and one a model without long-term interests cannot have.
void check_balance(const ModelConfig& config, double balance);

// With `repeats` and without exclude_seen, items of the history get their bonus; the result is as exact as
// score_topk's. Users without events get the items with the largest bias. Throws what score_topk throws.
void recommend(const Model& model, const CatalogView& catalog, const Scoring& scoring, const RecommendRequest& request,
               const Recommendations& out);

// `recommend` for users whose states are kept. request.events: those the states still know (seen_events), which is what
// exclude_seen and `repeats` look at.
void recommend_states(const Model& model, const CatalogView& catalog, const Scoring& scoring,
                      std::span<const ConstUserState> states, const RecommendRequest& request,
                      const Recommendations& out);

}  // namespace lsif::engine
