// What the fusion knows of a history beside its interests                                   (docs/model.md, 4)
#pragma once

#include <cmath>
#include <cstdint>

#include "engine/model.h"
#include "kernels/elapsed.h"
#include "kernels/interest_fusion.h"

namespace lsif::engine {

inline float gap_feature(const ModelConfig& config, int64_t newest, int64_t now) {
  if (!config.request_time || now == kUnknownTime || newest == kUnknownTime) return 0.0f;
  return static_cast<float>(std::log1p(static_cast<double>(elapsed(newest, now))) / std::log1p(kSecondsPerYear));
}

inline float length_feature(int64_t num_events) {
  return static_cast<float>(std::log1p(static_cast<double>(num_events)) / std::log1p(kManyEvents));
}

}  // namespace lsif::engine
