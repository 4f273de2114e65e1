#include "engine/encoded.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/dispatch.h"
#include "kernels/elapsed.h"

namespace lsif::engine {
namespace {

float gap_feature(const ModelConfig& config, int64_t newest, int64_t now) {
  if (!config.request_time || now == kUnknownTime || newest == kUnknownTime) return 0.0f;
  return static_cast<float>(std::log1p(static_cast<double>(elapsed(newest, now))) / std::log1p(kSecondsPerYear));
}

float length_feature(int64_t num_events) {
  return static_cast<float>(std::log1p(static_cast<double>(num_events)) / std::log1p(kManyEvents));
}

}  // namespace

Encoded Encoded::of(const ModelConfig& config, int64_t b) const {
  const int64_t num_interests = config.num_interests();
  return {fused + b * config.dim, interests + b * num_interests * config.dim, weights + b * num_interests};
}

void clear(const ModelConfig& config, const Encoded& user) {
  std::fill_n(user.fused, config.dim, 0.0f);
  std::fill_n(user.interests, config.num_interests() * config.dim, 0.0f);
  std::fill_n(user.weights, config.num_interests(), 0.0f);
}

void fuse(const Model& model, const float* states, int64_t num_states, const FusionContext& context,
          const Encoded& user, Scratch& scratch) {
  const ModelConfig& c = model.config();
  const cpu::KernelTable& kernels = cpu::kernels();
  const Scratch::Mark mark(scratch);
  float* short_interests = user.interests + c.num_long * c.dim;
  if (c.num_short > 0) {
    kernels.interest_pooling(model.short_pooling(), states, c.dim, nullptr, kUnknownTime, num_states, short_interests,
                             scratch.floats(interest_pooling_scratch_size(model.short_pooling())));
  }
  std::copy_n(states + (num_states - 1) * c.dim, c.dim, short_interests + c.num_short * c.dim);
  kernels.interest_fusion(model.fusion(), user.interests, gap_feature(c, context.newest, context.now),
                          length_feature(context.num_events), user.weights, user.fused,
                          scratch.floats(interest_fusion_scratch_size(model.fusion())));
}

}  // namespace lsif::engine
