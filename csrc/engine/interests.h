// The query vectors of a request, in the form score_topk's kernel takes.
#pragma once

#include <cstdint>

#include "engine/score_topk.h"
#include "engine/scratch.h"

namespace lsif::engine {

// The interests with nonzero weight, user after user, in memory of `scratch`. `request` has passed check_queries.
class Interests {
 public:
  Interests(const ScoreQueries& request, int64_t dim, Scratch& scratch);

  int64_t size() const { return first_[batch_]; }

  double score(const CatalogView& catalog, int64_t user, int64_t item, ExactScoreFn* exact_score) const;

  // The part of the query that TopkRowsFn reads. Points into this object; the caller sets exclusions and results.
  TopkQuery exact_query(int64_t user) const;

  // Computes what the bounds of codes need. Call it before topk_query.
  void code(Scratch& scratch);

  // Likewise for ScoreTopkFn.
  TopkQuery topk_query(int64_t user) const;

 private:
  int64_t size_of(int64_t user) const { return first_[user + 1] - first_[user]; }
  const float* vectors(int64_t user) const { return vectors_ + first_[user] * dim_; }
  const float* weights(int64_t user) const { return weights_ == nullptr ? nullptr : weights_ + first_[user]; }

  void code_vector(int64_t j);

  int64_t dim_;
  int64_t batch_;
  double temperature_;
  int64_t* first_;  // [batch + 1]
  float* vectors_;  // [size, dim]
  float* weights_;  // [size], or null
  // Set by code(), [size] each.
  int8_t* codes_ = nullptr;  // [size, query_stride(dim)]
  int32_t* code_sums_ = nullptr;
  float* scales_ = nullptr;
  float* errors_ = nullptr;
  float* norms_ = nullptr;
  double* log_weights_ = nullptr;
};

}  // namespace lsif::engine
