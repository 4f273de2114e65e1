// What a request brings and what its answer is written to, as NumPy arrays.
#pragma once

#include <cstdint>

#include "bindings/arrays.h"
#include "bindings/catalog_arrays.h"
#include "engine/ragged.h"
#include "engine/recommend.h"
#include "engine/score_checks.h"
#include "engine/thread_pool.h"

namespace lsif::bindings {

// A batch of histories; what serves as indices is copied to `scratch`.
inline engine::EventBatch histories_from(const py::object& items, const py::object& times, const py::object& actions,
                                         const py::object& offsets, const py::object& now, engine::Scratch& scratch) {
  const int64_t total = array_from("items", items).size();
  const int64_t batch = array_from("offsets", offsets).size() - 1;
  if (batch < 0) refuse("offsets", "at least one value", "none");
  return {copy_or_null("items", items, total, scratch),
          view_or_null("times", times, total),
          copy_or_null("actions", actions, total, scratch),
          copy_or_null("offsets", offsets, batch + 1, scratch),
          view_or_null("now", now, batch),
          total,
          batch};
}

// What a request for items asks beside the users, and the arrays its answer goes to.
class Ranking {
 public:
  Ranking(engine::RecommendRequest& request, int64_t k, bool exclude_seen, const py::object& exclude_items,
          const py::object& exclude_offsets, const py::object& allowed, int64_t num_items, double balance,
          int64_t threads, double error_share, engine::Scratch& scratch) {
    const int64_t batch = request.events.batch;
    request.k = k;
    request.exclude_seen = exclude_seen;
    request.balance = balance;
    request.threads = engine::check_threads(threads);
    request.error_share = engine::check_error_share(error_share);
    if (exclude_items.is_none() != exclude_offsets.is_none()) {
      refuse("exclude_offsets", "with exclude_items and only then", "one without the other");
    }
    if (!exclude_items.is_none()) {
      const int64_t total = array_from("exclude_items", exclude_items).size();
      request.exclude_items = copy_or_null("exclude_items", exclude_items, total, scratch);
      request.exclude_offsets = copy_or_null("exclude_offsets", exclude_offsets, batch + 1, scratch);
      engine::check_offsets("exclude_offsets", request.exclude_offsets, batch, total);
    }
    allowed_ = AllowedRows(allowed, batch, num_items);
    request.allowed = allowed_.data();
    engine::check_k(k, num_items);
    Array<float> scores({batch, k});
    Array<int64_t> indices({batch, k});
    Array<int64_t> counts(batch);
    Array<float> long_share(batch);
    out = {scores.mutable_data(), indices.mutable_data(), counts.mutable_data(), long_share.mutable_data()};
    answer = py::make_tuple(scores, indices, counts, long_share);
  }

  engine::Recommendations out{};
  py::tuple answer;  // the arrays that `out` is of

 private:
  AllowedRows allowed_;
};

}  // namespace lsif::bindings
