#include "engine/recommend.h"

#include <algorithm>
#include <numeric>

#include "engine/score_topk.h"
#include "engine/scratch.h"

namespace lsif::engine {
namespace {

struct Ragged {
  const int64_t* items;
  const int64_t* offsets;
};

// The rows each user must not get: the request's own and, if asked for, the user's history.
Ragged exclusions(const RecommendRequest& request, Scratch& scratch) {
  if (!request.exclude_seen) return {request.exclude_items, request.exclude_offsets};
  const EventBatch& events = request.events;
  if (request.exclude_items == nullptr) return {events.items, events.offsets};
  int64_t* offsets = scratch.ints(events.batch + 1);
  int64_t* items = scratch.ints(events.total + request.exclude_offsets[events.batch]);
  int64_t* end = items;
  offsets[0] = 0;
  for (int64_t b = 0; b < events.batch; ++b) {
    end = std::copy(events.items + events.offsets[b], events.items + events.offsets[b + 1], end);
    end = std::copy(request.exclude_items + request.exclude_offsets[b],
                    request.exclude_items + request.exclude_offsets[b + 1], end);
    offsets[b + 1] = end - items;
  }
  return {items, offsets};
}

}  // namespace

void recommend(const Model& model, const CatalogView& catalog, const Scoring& scoring, const RecommendRequest& request,
               const Recommendations& out) {
  const ModelConfig& c = model.config();
  const EventBatch& events = request.events;
  Scratch scratch;
  float* fused = scratch.floats(events.batch * c.dim);
  float* interests = scratch.floats(events.batch * c.num_interests() * c.dim);
  float* weights = scratch.floats(events.batch * c.num_interests());
  encode(model, events, request.threads, {fused, interests, weights});
  for (int64_t b = 0; b < events.batch; ++b) {
    float* user_weights = weights + b * c.num_interests();
    out.long_share[b] = std::accumulate(user_weights, user_weights + c.num_long, 0.0f);
    // Without events all interests are zero; any weight that sums to one gives the bias alone.
    if (events.offsets[b] == events.offsets[b + 1]) user_weights[c.num_interests() - 1] = 1.0f;
  }
  const Ragged exclude = exclusions(request, scratch);
  ScoreTopkRequest topk{};
  topk.vectors = scoring.multi_interest ? interests : fused;
  topk.weights = scoring.multi_interest ? weights : nullptr;
  topk.temperature = scoring.temperature;
  topk.batch = events.batch;
  topk.num_interests = scoring.multi_interest ? c.num_interests() : 1;
  topk.k = request.k;
  topk.exclude_items = exclude.items;
  topk.exclude_offsets = exclude.offsets;
  topk.threads = request.threads;
  score_topk(catalog, topk, out.scores, out.indices, out.counts);
}

}  // namespace lsif::engine
