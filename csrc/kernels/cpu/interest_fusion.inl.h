#pragma once

#include "kernels/cpu/linear.inl.h"
#include "kernels/cpu/multiply_add.inl.h"
#include "kernels/cpu/simd.h"
#include "kernels/interest_fusion.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

inline float squared_norm(const float* x, int64_t dim) {
  Vec total = broadcast(0.0f);
  int64_t c = 0;
  for (; c + kLanes <= dim; c += kLanes) {
    const Vec v = load(x + c);
    total = fma(v, v, total);
  }
  const Vec v = load_first(x + c, dim - c);
  return sum_lanes(fma(v, v, total));
}

// The mean cosine distance of the interests. directions: [dim], scratch for the sum of v_j / |v_j|.
inline float dispersion(const float* interests, int64_t num_interests, int64_t dim, float* directions) {
  if (num_interests == 1) return 0.0f;
  for (int64_t c = 0; c < dim; ++c) directions[c] = 0.0f;
  for (int64_t j = 0; j < num_interests; ++j) {
    const float* v = interests + j * dim;
    const float scale = 1.0f / __builtin_sqrtf(squared_norm(v, dim) + kDirectionEps);
    accumulate<1>(&scale, 0, v, 0, 1, directions, 0, dim);
  }
  const float m = static_cast<float>(num_interests);
  return 1.0f - (squared_norm(directions, dim) - m) / (m * (m - 1.0f));
}

inline void softmax(float* z, int64_t n) {
  constexpr float kLowest = -__builtin_inff();
  Vec highest = broadcast(kLowest);
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t lanes = smaller(kLanes, n - i);
    highest = max(highest, keep_first(load_first(z + i, lanes), lanes, kLowest));
  }
  const Vec top = broadcast(max_lanes(highest));
  Vec total = broadcast(0.0f);
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t lanes = smaller(kLanes, n - i);
    const Vec e = keep_first(exp(load_first(z + i, lanes) - top), lanes, 0.0f);
    store_first(z + i, e, lanes);
    total = total + e;
  }
  const float sum = sum_lanes(total);
  for (int64_t i = 0; i < n; ++i) z[i] /= sum;
}

void interest_fusion(const InterestFusionParams& params, const float* interests, float gap, float length,
                     float* weights, float* fused, float* scratch) {
  const int64_t dim = params.dim;
  const int64_t num_interests = params.num_interests;
  float* input = scratch;                              // [num_interests * dim + kFusionContext]
  float* hidden = input + params.hidden.in_dim;        // [fusion_dim]
  float* directions = hidden + params.hidden.out_dim;  // [dim]
  const int64_t size = num_interests * dim;
  __builtin_memcpy(input, interests, static_cast<uint64_t>(size) * sizeof(float));
  input[size] = gap;
  input[size + 1] = length;
  input[size + 2] = dispersion(interests, num_interests, dim, directions);
  linear(params.hidden, input, 0, nullptr, 0, hidden, 0, 1);
  linear(params.logits, hidden, 0, nullptr, 0, weights, 0, 1);
  softmax(weights, num_interests);
  for (int64_t c = 0; c < dim; ++c) fused[c] = 0.0f;
  accumulate<1>(weights, 0, interests, dim, num_interests, fused, 0, dim);
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
