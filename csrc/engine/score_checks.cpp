#include "engine/score_checks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "engine/float_rows.h"
#include "engine/refuse.h"

namespace lsif::engine {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

void check_between(const char* argument, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return;
  const std::string end = high == kNoLimit ? "" : " and at most " + std::to_string(high);
  refuse(argument, "at least " + std::to_string(low) + end, std::to_string(value));
}

void check_weights(const float* weights, int64_t batch, int64_t num_interests) {
  for (int64_t user = 0; user < batch; ++user) {
    bool some_positive = false;
    for (int64_t j = 0; j < num_interests; ++j) {
      const float weight = weights[user * num_interests + j];
      if (!(weight >= 0 && weight <= std::numeric_limits<float>::max())) {
        refuse("weights", "finite numbers >= 0",
               std::to_string(weight) + " in user " + std::to_string(user) + ", interest " + std::to_string(j));
      }
      some_positive |= weight > 0;
    }
    if (!some_positive) refuse("weights", "a positive weight for each user", "none in user " + std::to_string(user));
  }
}

}  // namespace

void check_queries(const CatalogView& catalog, const ScoreQueries& request) {
  check_between("catalog.dim", catalog.dim, 1, kMaxScoreDim);
  check_between("catalog.num_items", catalog.num_items, 0, kNoLimit);
  check_between("batch", request.batch, 0, kNoLimit);
  check_between("num_interests", request.num_interests, 1, kMaxScoreInterests);
  if (request.weights == nullptr) {
    if (request.num_interests != 1) {
      refuse("weights", "one per interest", "none for " + std::to_string(request.num_interests) + " interests");
    }
    const int64_t shape[] = {request.batch, catalog.dim};
    return require_finite("queries", request.vectors, shape, 1);
  }
  const int64_t bad = check_finite(request.vectors, request.batch * request.num_interests, catalog.dim, 1);
  if (bad >= 0) {
    refuse("queries", "finite float32 values",
           "NaN or infinity in user " + std::to_string(bad / request.num_interests) + ", interest " +
               std::to_string(bad % request.num_interests));
  }
  if (!(request.temperature >= static_cast<double>(std::numeric_limits<float>::min()) &&
        request.temperature <= static_cast<double>(std::numeric_limits<float>::max()))) {
    refuse("temperature", "a positive normal float32 number", std::to_string(request.temperature));
  }
  check_weights(request.weights, request.batch, request.num_interests);
}

void check_k(int64_t k) {
  if (k < 1) refuse("k", "an integer >= 1", std::to_string(k));
}

void check_k(int64_t k, int64_t num_items) {
  const int64_t most = std::max(kMaxK, num_items);
  if (k < 1 || k > most) refuse("k", "an integer in [1, " + std::to_string(most) + "]", std::to_string(k));
}

float check_error_share(double share) {
  if (!(share >= 0 && share <= 1)) refuse("error_share", "a number from 0 to 1", std::to_string(share));
  return static_cast<float>(share);
}

void check_score_rows(const char* argument, const int64_t* items, const int64_t* offsets, int64_t batch,
                      int64_t num_items) {
  for (int64_t user = 0; user < batch; ++user) {
    for (int64_t i = offsets[user]; i < offsets[user + 1]; ++i) {
      if (items[i] >= 0 && items[i] < num_items) continue;
      refuse(argument, "rows in [0, " + std::to_string(num_items) + ")",
             std::to_string(items[i]) + " for user " + std::to_string(user));
    }
  }
}

void check_score(float score, int64_t user, int64_t item) {
  if (std::isfinite(score)) return;
  refuse("queries", "scores within float32",
         "one beyond it for user " + std::to_string(user) + ", row " + std::to_string(item));
}

}  // namespace lsif::engine
