#include "engine/interests.h"

#include <cmath>

#include "engine/catalog.h"

namespace lsif::engine {

Interests::Interests(const ScoreQueries& request, int64_t dim)
    : dim_(dim), has_weights_(request.weights != nullptr), temperature_(request.temperature), first_{0} {
  for (int64_t user = 0; user < request.batch; ++user) {
    for (int64_t j = user * request.num_interests; j < (user + 1) * request.num_interests; ++j) {
      if (has_weights_) {
        if (request.weights[j] == 0) continue;
        weights_.push_back(request.weights[j]);
      }
      vectors_.insert(vectors_.end(), request.vectors + j * dim, request.vectors + (j + 1) * dim);
    }
    first_.push_back(static_cast<int64_t>(vectors_.size()) / dim);
  }
}

double Interests::score(const CatalogView& catalog, int64_t user, int64_t item) const {
  return exact_score(vectors(user), weights(user), size_of(user), temperature_, catalog.vectors + item * dim_,
                     catalog.bias == nullptr ? 0.0f : catalog.bias[item], dim_);
}

void Interests::code() {
  const int64_t count = size();
  const int64_t stride = code_stride(dim_);
  codes_.resize(count * stride);
  scales_.resize(count);
  errors_.resize(count);
  norms_.resize(count);
  quantize_rows(vectors_.data(), count, dim_, codes_.data(), scales_.data(), errors_.data(), norms_.data(), 1);
  for (int64_t j = 0; j < count; ++j) {
    int32_t sum = 0;
    for (int64_t i = 0; i < stride; ++i) sum += codes_[j * stride + i];
    code_sums_.push_back(sum);
    double squared_norm = 0;
    for (int64_t i = 0; i < dim_; ++i) squared_norm += std::pow(static_cast<double>(vectors_[j * dim_ + i]), 2);
    norms_[j] = round_up(std::sqrt(squared_norm) * (1 + 0x1p-30));
  }
  for (const float weight : weights_) {
    log_weights_.push_back(temperature_ * std::log(static_cast<double>(weight)));
  }
}

TopkQuery Interests::topk_query(int64_t user) const {
  const int64_t first = first_[user];
  TopkQuery query{};
  query.vectors = vectors(user);
  query.codes = codes_.data() + first * code_stride(dim_);
  query.code_sums = code_sums_.data() + first;
  query.scales = scales_.data() + first;
  query.errors = errors_.data() + first;
  query.norms = norms_.data() + first;
  query.num_interests = size_of(user);
  query.temperature = temperature_;
  if (has_weights_) {
    query.weights = weights(user);
    query.log_weights = log_weights_.data() + first;
    double total = 0;
    for (int64_t j = 0; j < query.num_interests; ++j) total += static_cast<double>(query.weights[j]);
    query.log_total = temperature_ * std::log(total);
  }
  return query;
}

}  // namespace lsif::engine
