// The query vectors of a request as score_topk's kernel wants them.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/score_topk.h"

namespace lsif::engine {

// The interests that take part (weight not 0), user after user. `request` has passed check_queries.
class Interests {
 public:
  Interests(const ScoreQueries& request, int64_t dim);

  int64_t size() const { return first_.back(); }

  double score(const CatalogView& catalog, int64_t user, int64_t item) const;

  // Makes what the kernel's bounds need; before topk_query.
  void code();

  // Points into this object. Exclusions and results are for the caller to set.
  TopkQuery topk_query(int64_t user) const;

 private:
  int64_t size_of(int64_t user) const { return first_[user + 1] - first_[user]; }
  const float* vectors(int64_t user) const { return vectors_.data() + first_[user] * dim_; }
  const float* weights(int64_t user) const { return has_weights_ ? weights_.data() + first_[user] : nullptr; }

  void code_vector(const float* q, int8_t* codes);

  int64_t dim_;
  bool has_weights_;
  double temperature_;
  std::vector<int64_t> first_;  // [batch + 1]
  std::vector<float> vectors_;
  std::vector<float> weights_;
  std::vector<int8_t> codes_;
  std::vector<int32_t> code_sums_;
  std::vector<float> scales_;
  std::vector<float> errors_;
  std::vector<float> norms_;
  std::vector<double> log_weights_;
};

}  // namespace lsif::engine
