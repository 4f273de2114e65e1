#include "engine/interests.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/float_rows.h"

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
  const int64_t stride = query_stride(dim_);
  codes_.resize(count * stride);  // zero past dim
  for (int64_t j = 0; j < count; ++j) code_vector(vectors_.data() + j * dim_, codes_.data() + j * stride);
  for (const float weight : weights_) {
    log_weights_.push_back(temperature_ * std::log(static_cast<double>(weight)));
  }
}

TopkQuery Interests::topk_query(int64_t user) const {
  const int64_t first = first_[user];
  TopkQuery query{};
  query.vectors = vectors(user);
  query.codes = codes_.data() + first * query_stride(dim_);
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

// Symmetric int8 codes: scale = max|q| / 127, zero where that is below the normal float32 numbers, code = q / scale to
// the nearest. The bounds are computed in float64 and rounded up, far above the rounding of their sums.
void Interests::code_vector(const float* q, int8_t* codes) {
  constexpr double kOutwards = 1 + 0x1p-30;
  float scale = largest_magnitude(q, dim_) / 127.0f;
  if (scale < std::numeric_limits<float>::min()) scale = 0;
  const float inverse = scale == 0 ? 0.0f : 1.0f / scale;
  double error = 0;
  double norm = 0;
  int32_t sum = 0;
  for (int64_t i = 0; i < dim_; ++i) {
    const float ratio = q[i] * inverse;
    const auto code = std::clamp(static_cast<int32_t>(ratio + (ratio < 0 ? -0.5f : 0.5f)), -127, 127);
    codes[i] = static_cast<int8_t>(code);
    sum += code;
    const double value = q[i];
    const double missed = value - static_cast<double>(scale) * code;
    error += missed * missed;
    norm += value * value;
  }
  code_sums_.push_back(sum);
  scales_.push_back(scale);
  errors_.push_back(round_up(std::sqrt(error) * kOutwards));
  norms_.push_back(round_up(std::sqrt(norm) * kOutwards));
}

}  // namespace lsif::engine
