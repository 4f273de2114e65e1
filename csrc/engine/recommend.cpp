#include "engine/recommend.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <string>

#include "engine/append.h"
#include "engine/excluded.h"
#include "engine/ragged.h"
#include "engine/refuse.h"
#include "engine/repeats.h"
#include "engine/score_topk.h"
#include "engine/scratch.h"
#include "engine/sort_best.h"

namespace lsif::engine {
namespace {

RaggedRows own_exclusions(const RecommendRequest& request) { return {request.exclude_items, request.exclude_offsets}; }

// The rows the scan must skip: those the request excludes and, if asked for, the user's history. Neither sorted nor
// unique: Excluded does that once.
RaggedRows exclusions(const RecommendRequest& request, bool with_history, Scratch& scratch) {
  if (!with_history) return own_exclusions(request);
  const EventBatch& events = request.events;
  if (request.exclude_items == nullptr) return {events.items, events.offsets};
  int64_t* rows = scratch.ints(events.total + request.exclude_offsets[events.batch]);
  int64_t* offsets = scratch.ints(events.batch + 1);
  int64_t* end = rows;
  offsets[0] = 0;
  for (int64_t b = 0; b < events.batch; ++b) {
    end = std::copy(events.items + events.offsets[b], events.items + events.offsets[b + 1], end);
    end = std::copy(request.exclude_items + request.exclude_offsets[b],
                    request.exclude_items + request.exclude_offsets[b + 1], end);
    offsets[b + 1] = end - rows;
  }
  return {rows, offsets};
}

// Drops the rows that the request excludes or does not allow, in place.
void remove_excluded(const Excluded& excluded, const uint64_t* const* allowed, RepeatBonuses& own) {
  int64_t end = 0;
  int64_t begin = 0;
  for (int64_t user = 0; user < own.batch; ++user) {
    const int64_t* unwanted = excluded.items(user);
    const int64_t num_unwanted = excluded.size_of(user);
    const uint64_t* wanted = allowed == nullptr ? nullptr : allowed[user];
    for (int64_t i = begin; i < own.offsets[user + 1]; ++i) {
      const int64_t row = own.rows[i];
      if (wanted != nullptr && (wanted[row / 64] >> (row % 64) & 1) == 0) continue;
      if (std::binary_search(unwanted, unwanted + num_unwanted, row)) continue;
      own.rows[end] = own.rows[i];
      own.values[end++] = own.values[i];
    }
    begin = own.offsets[user + 1];
    own.offsets[user + 1] = end;
  }
}

// Merges own[0 .. num_own - 1] into the user's results and keeps the best k.
void merge_own(int64_t user, int64_t k, ScoredItem* own, int64_t num_own, const Recommendations& out,
               Scratch& scratch) {
  if (num_own == 0) return;
  const Scratch::Mark mark(scratch);
  float* scores = out.scores + user * k;
  int64_t* indices = out.indices + user * k;
  const int64_t num_found = out.counts[user];
  auto* found = scratch.array<ScoredItem>(num_found);
  for (int64_t i = 0; i < num_found; ++i) found[i] = {scores[i], indices[i]};
  std::sort(own, own + num_own, is_better);
  auto* all = scratch.array<ScoredItem>(num_found + num_own);
  std::merge(found, found + num_found, own, own + num_own, all, is_better);
  out.counts[user] = std::min<int64_t>(k, num_found + num_own);
  for (int64_t i = 0; i < out.counts[user]; ++i) {
    scores[i] = all[i].score;
    indices[i] = all[i].item;
  }
}

// Scores the items of the histories, which the scan has skipped, and merges them into the results. Overwrites `own`.
void add_own_items(const CatalogView& catalog, const RecommendRequest& request, const ScoreQueries& queries,
                   RepeatBonuses& own, const Recommendations& out, Scratch& scratch) {
  const RaggedRows unwanted = own_exclusions(request);
  remove_excluded(Excluded({&unwanted, 1}, queries.batch, catalog.num_items, scratch), request.allowed, own);
  float* scores = scratch.floats(own.size());
  score_items(catalog, queries, own.rows, own.offsets, scores, request.threads);
  auto* items = scratch.array<ScoredItem>(own.size());
  for (int64_t i = 0; i < own.size(); ++i) items[i] = {scores[i] + own.values[i], own.rows[i]};
  for (int64_t user = 0; user < queries.batch; ++user) {
    const int64_t begin = own.offsets[user];
    merge_own(user, request.k, items + begin, own.offsets[user + 1] - begin, out, scratch);
  }
}

// Scales weights[0 .. count - 1] to the given sum; if all are zero, makes them equal.
void scale_to(float* weights, int64_t count, double wanted) {
  const double sum = std::accumulate(weights, weights + count, 0.0);
  for (int64_t i = 0; i < count; ++i) {
    weights[i] = static_cast<float>(sum > 0 ? weights[i] * (wanted / sum) : wanted / static_cast<double>(count));
  }
}

// Gives the long-term interests the requested total weight, and the others the rest.
void rebalance(const ModelConfig& c, double balance, const float* interests, float* weights, float* fused) {
  scale_to(weights, c.num_long, balance);
  scale_to(weights + c.num_long, c.num_interests() - c.num_long, 1 - balance);
  for (int64_t i = 0; i < c.dim; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < c.num_interests(); ++j) {
      sum += static_cast<double>(weights[j]) * static_cast<double>(interests[j * c.dim + i]);
    }
    fused[i] = static_cast<float>(sum);
  }
}

// Scores encoded users; overwrites the weights of those without events.
void rank(const Model& model, const CatalogView& catalog, const Scoring& scoring, const RecommendRequest& request,
          const Encoded& users, const Recommendations& out) {
  const ModelConfig& c = model.config();
  const EventBatch& events = request.events;
  for (int64_t b = 0; b < events.batch; ++b) {
    float* weights = users.weights + b * c.num_interests();
    // The weights sum to 1 only up to rounding.
    const double long_share = std::min(std::accumulate(weights, weights + c.num_long, 0.0), 1.0);
    out.long_share[b] = static_cast<float>(long_share);
    if (request.balance >= 0 && events.offsets[b] < events.offsets[b + 1]) {
      rebalance(c, request.balance, users.interests + b * c.num_interests() * c.dim, weights, users.fused + b * c.dim);
      out.long_share[b] = static_cast<float>(request.balance);
    }
    // Without events all interests are zero, and any weights that sum to 1 give the bias alone.
    if (events.offsets[b] == events.offsets[b + 1]) weights[c.num_interests() - 1] = 1.0f;
  }
  Scratch scratch;
  const RaggedRows exclude = exclusions(request, request.exclude_seen || c.repeats, scratch);
  ScoreTopkRequest topk{};
  topk.vectors = scoring.multi_interest ? users.interests : users.fused;
  topk.weights = scoring.multi_interest ? users.weights : nullptr;
  topk.temperature = scoring.temperature;
  topk.batch = events.batch;
  topk.num_interests = scoring.multi_interest ? c.num_interests() : 1;
  topk.k = request.k;
  topk.exclude_items = exclude.rows;
  topk.exclude_offsets = exclude.offsets;
  topk.allowed = request.allowed;
  topk.threads = request.threads;
  topk.error_share = request.error_share;
  if (request.batcher == nullptr) {
    score_topk(catalog, topk, out.scores, out.indices, out.counts);
  } else {
    request.batcher->score_topk(catalog, topk, request.deadline, out.scores, out.indices, out.counts);
  }
  if (!c.repeats || request.exclude_seen) return;
  const int64_t stride = c.num_interests() * c.dim;
  const float* newest = users.interests + stride - c.dim;
  RepeatBonuses own = repeat_bonuses(model, events, newest, stride, request.threads, scratch);
  add_own_items(catalog, request, topk, own, out, scratch);
}

Encoded room_for_users(const ModelConfig& c, int64_t batch, Scratch& scratch) {
  return {scratch.floats(batch * c.dim), scratch.floats(batch * c.num_interests() * c.dim),
          scratch.floats(batch * c.num_interests())};
}

}  // namespace

void check_balance(const ModelConfig& config, double balance) {
  if (balance < 0) return;
  if (!(balance <= 1)) refuse("interest", "0 to 1", std::to_string(balance));
  if (balance > 0 && config.num_long == 0) {
    refuse("interest", "0, for this model has no long-term interests", std::to_string(balance));
  }
}

void recommend(const Model& model, const CatalogView& catalog, const Scoring& scoring, const RecommendRequest& request,
               const Recommendations& out) {
  Scratch scratch;
  const Encoded users = room_for_users(model.config(), request.events.batch, scratch);
  encode(model, request.events, request.threads, users);
  rank(model, catalog, scoring, request, users, out);
}

void recommend_states(const Model& model, const CatalogView& catalog, const Scoring& scoring,
                      std::span<const ConstUserState> states, const RecommendRequest& request,
                      const Recommendations& out) {
  Scratch scratch;
  const Encoded users = room_for_users(model.config(), request.events.batch, scratch);
  encode_states(model, states, request.events.now, request.threads, users);
  rank(model, catalog, scoring, request, users, out);
}

}  // namespace lsif::engine
