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
  double balance = -1;    // total weight of the long-term interests, 0 to 1; below 0: the model decides
  float error_share = 1;  // as in ScoreTopkRequest
  int threads;
  TopkBatcher* batcher = nullptr;  // searches together with other callers' requests; null: searches for this call alone
  TopkBatcher::Clock::time_point deadline = TopkBatcher::Clock::time_point::max();  // to start the search
};

struct Recommendations {
  float* scores;      // [batch, k]
  int64_t* indices;   // [batch, k], -1 past counts
  int64_t* counts;    // [batch]
  float* long_share;  // [batch], weight of the long-term interests, 0 to 1 (the balance, if given); 0 without events
};

// Throws unless balance is below 0 or in [0, 1]; also if it is not negative but the model has no long-term interests.
void check_balance(const ModelConfig& config, double balance);

// With `repeats` and without exclude_seen, items of the history get their bonus; the result is as exact as that of
// score_topk. Users without events get the items with the largest bias. Throws what score_topk throws.
void recommend(const Model& model, const CatalogView& catalog, const Scoring& scoring, const RecommendRequest& request,
               const Recommendations& out);

// `recommend` for users with stored states. request.events: the events the states still remember (seen_events), as
// exclude_seen and `repeats` need them.
void recommend_states(const Model& model, const CatalogView& catalog, const Scoring& scoring,
                      std::span<const ConstUserState> states, const RecommendRequest& request,
                      const Recommendations& out);

}  // namespace lsif::engine
