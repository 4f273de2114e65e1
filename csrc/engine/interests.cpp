#include "engine/interests.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/float_rows.h"
#include "kernels/score_topk_bounds.h"

namespace lsif::engine {

Interests::Interests(const ScoreQueries& request, int64_t dim, Scratch& scratch)
    : dim_(dim),
      batch_(request.batch),
      temperature_(request.temperature),
      first_(scratch.ints(request.batch + 1)),
      vectors_(scratch.floats(request.batch * request.num_interests * dim)),
      weights_(request.weights == nullptr ? nullptr : scratch.floats(request.batch * request.num_interests)) {
  int64_t count = 0;
  first_[0] = 0;
  for (int64_t user = 0; user < batch_; ++user) {
    for (int64_t j = user * request.num_interests; j < (user + 1) * request.num_interests; ++j) {
      if (weights_ != nullptr) {
        if (request.weights[j] == 0) continue;
        weights_[count] = request.weights[j];
      }
      std::copy_n(request.vectors + j * dim, dim, vectors_ + count++ * dim);
    }
    first_[user + 1] = count;
  }
}

double Interests::score(const CatalogView& catalog, int64_t user, int64_t item, ExactScoreFn* exact_score) const {
  return exact_score(vectors(user), weights(user), size_of(user), temperature_, catalog.vectors + item * dim_,
                     catalog.bias == nullptr ? 0.0f : catalog.bias[item], dim_);
}

void Interests::code(Scratch& scratch) {
  const int64_t count = size();
  codes_ = scratch.array<int8_t>(count * query_stride(dim_));
  code_sums_ = scratch.array<int32_t>(count);
  scales_ = scratch.floats(count);
  errors_ = scratch.floats(count);
  norms_ = scratch.floats(count);
  for (int64_t j = 0; j < count; ++j) code_vector(j);
  if (weights_ == nullptr) return;
  log_weights_ = scratch.array<double>(count);
  for (int64_t j = 0; j < count; ++j) log_weights_[j] = temperature_ * std::log(static_cast<double>(weights_[j]));
}

TopkQuery Interests::exact_query(int64_t user) const {
  TopkQuery query{};
  query.vectors = vectors(user);
  query.weights = weights(user);
  query.num_interests = size_of(user);
  query.temperature = temperature_;
  return query;
}

TopkQuery Interests::topk_query(int64_t user) const {
  const int64_t first = first_[user];
  TopkQuery query = exact_query(user);
  query.codes = codes_ + first * query_stride(dim_);
  query.code_sums = code_sums_ + first;
  query.scales = scales_ + first;
  query.errors = errors_ + first;
  query.norms = norms_ + first;
  if (weights_ != nullptr) {
    query.log_weights = log_weights_ + first;
    double total = 0;
    for (int64_t j = 0; j < query.num_interests; ++j) total += static_cast<double>(query.weights[j]);
    query.log_total = temperature_ * std::log(total);
  }
  return query;
}

// Symmetric int8 codes: scale = max|q| / 127, or zero if that is below the normal float32 numbers; code = q / scale,
// rounded to nearest. The bounds are computed in float64 and rounded up by far more than the rounding error of their
// sums.
void Interests::code_vector(int64_t j) {
  const float* q = vectors_ + j * dim_;
  int8_t* codes = codes_ + j * query_stride(dim_);
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
  std::fill(codes + dim_, codes + query_stride(dim_), int8_t{0});
  code_sums_[j] = sum;
  scales_[j] = scale;
  errors_[j] = round_up(std::sqrt(error) * kOutwards);
  norms_[j] = round_up(std::sqrt(norm) * kOutwards);
}

}  // namespace lsif::engine
