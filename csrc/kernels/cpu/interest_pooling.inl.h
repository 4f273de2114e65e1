#pragma once

#include "kernels/cpu/linear.inl.h"
#include "kernels/cpu/multiply_add.inl.h"
#include "kernels/cpu/simd.h"
#include "kernels/elapsed.h"
#include "kernels/interest_pooling.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

static_assert(kPoolingChunk % kLanes == 0);

inline float first_lane(Vec a) {
  float lane = 0.0f;
  store_first(&lane, a, 1);
  return lane;
}

// Interest a's logits for one chunk: reads the rows of the logits layer, writes `weights`, padded with -inf to whole
// vectors.
inline void decayed_logits(const InterestPoolingParams& params, int64_t a, const float* logits, const int64_t* times,
                           int64_t newest_time, int64_t events, float* weights) {
  const int64_t num_interests = params.logits.out_dim;
  for (int64_t j = 0; j < events; ++j) weights[j] = logits[j * num_interests + a];
  for (int64_t j = events; j < kPoolingChunk; ++j) weights[j] = -__builtin_inff();
  if (params.decay == nullptr || times == nullptr || newest_time == kUnknownTime) return;
  for (int64_t j = 0; j < events; ++j) {
    if (times[j] == kUnknownTime) continue;
    const double days = static_cast<double>(elapsed(times[j], newest_time)) / kSecondsPerDay;
    weights[j] -= params.decay[a] * static_cast<float>(days);
  }
}

// Replaces the chunk's logits by exp(logit - maximum) and updates the running maximum and denominator. Returns the
// factor by which earlier sums must be scaled.
inline float fold_chunk(float* weights, float* maximum, float* denominator) {
  Vec highest = load(weights);
  for (int64_t j = kLanes; j < kPoolingChunk; j += kLanes) highest = max(highest, load(weights + j));
  const float top = max_lanes(highest);
  const float new_maximum = top > *maximum ? top : *maximum;
  // If all logits so far are -inf: any finite reference gives weights 0, while -inf would give NaN.
  const float reference = new_maximum == -__builtin_inff() ? 0.0f : new_maximum;
  const float shrink = first_lane(exp(broadcast(*maximum - reference)));
  Vec total = broadcast(0.0f);
  for (int64_t j = 0; j < kPoolingChunk; j += kLanes) {
    const Vec e = exp(load(weights + j) - broadcast(reference));
    store(weights + j, e);
    total = total + e;
  }
  *maximum = new_maximum;
  *denominator = *denominator * shrink + sum_lanes(total);
  return shrink;
}

void interest_pooling(const InterestPoolingParams& params, const float* x, int64_t x_stride, const int64_t* times,
                      int64_t newest_time, int64_t seq_len, float* y, float* scratch) {
  const int64_t dim = params.hidden.in_dim;
  const int64_t pooling_dim = params.hidden.out_dim;
  const int64_t num_interests = params.logits.out_dim;
  float* hidden = scratch;                                  // [kPoolingChunk, pooling_dim]
  float* logits = hidden + kPoolingChunk * pooling_dim;     // [kPoolingChunk, num_interests]
  float* weights = logits + kPoolingChunk * num_interests;  // [num_interests, kPoolingChunk]
  float* maximum = weights + num_interests * kPoolingChunk;
  float* denominator = maximum + num_interests;
  for (int64_t a = 0; a < num_interests; ++a) {
    maximum[a] = -__builtin_inff();
    denominator[a] = 0.0f;
    for (int64_t c = 0; c < dim; ++c) y[a * dim + c] = 0.0f;
  }
  for (int64_t begin = 0; begin < seq_len; begin += kPoolingChunk) {
    const int64_t events = smaller(kPoolingChunk, seq_len - begin);
    const float* chunk = x + begin * x_stride;
    linear(params.hidden, chunk, x_stride, nullptr, 0, hidden, pooling_dim, events);
    linear(params.logits, hidden, pooling_dim, nullptr, 0, logits, num_interests, events);
    for (int64_t a = 0; a < num_interests; ++a) {
      decayed_logits(params, a, logits, times == nullptr ? nullptr : times + begin, newest_time, events,
                     weights + a * kPoolingChunk);
      const float shrink = fold_chunk(weights + a * kPoolingChunk, maximum + a, denominator + a);
      for (int64_t c = 0; c < dim; ++c) y[a * dim + c] *= shrink;
    }
    for_row_blocks(0, num_interests, [&](auto rows, int64_t a) {
      accumulate<rows.value>(weights + a * kPoolingChunk, kPoolingChunk, chunk, x_stride, events, y + a * dim, dim,
                             dim);
    });
  }
  for (int64_t a = 0; a < num_interests; ++a) {
    if (denominator[a] == 0.0f) continue;
    for (int64_t c = 0; c < dim; ++c) y[a * dim + c] /= denominator[a];
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
