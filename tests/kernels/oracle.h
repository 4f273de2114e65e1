// Float64 oracles of the encoder's kernels. Each computes the contract's formula on the float32 inputs and, for every
// value, the error the contract allows. Rounding errors are propagated term by term (u = 2^-24), never guessed.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/attention.h"
#include "kernels/interest_pooling.h"
#include "kernels/types.h"

namespace oracle {

inline constexpr double kUnit = 0x1p-24;
inline constexpr double kTiny = 0x1p-126;  // below it float32 loses precision: always allowed in addition

// A real number and the error a float32 kernel may have in it.
struct Approx {
  double value = 0;
  double error = 0;
};

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  int64_t integer(int64_t low, int64_t high) {  // both ends included
    return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  float normal(double scale = 1) {  // a sum of uniforms is close enough to normal
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return static_cast<float>(sum * scale);
  }

 private:
  std::mt19937_64 engine_;
};

// Rounds normal numbers to 8 bits of precision, ties to even.
inline float to_bfloat16(float x) {
  int exponent;
  const double mantissa = std::frexp(static_cast<double>(x), &exponent);
  return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8));
}

inline double silu(double z) { return z / (1 + std::exp(-z)); }
inline double gelu(double z) { return 0.5 * z * std::erfc(-z * M_SQRT1_2); }

inline constexpr double kGeluUnits = 4;                // simd.h: error in units of 2^-24 of the argument
inline constexpr double kCoarseGelu = 1.25 * 0x1p-13;  // simd.h: error in bfloat16 layers, relative to min(|z|, 1)

// The errors documented in simd.h, plus the argument's error times the largest slope (1.13 for gelu, 1.10 for silu).
inline Approx activate(lsif::Activation activation, Approx z, bool coarse = false) {
  switch (activation) {
    case lsif::Activation::kIdentity:
      return z;
    case lsif::Activation::kRelu:
      return {z.value > 0 ? z.value : 0, z.error};
    case lsif::Activation::kGelu: {
      const double y = gelu(z.value);
      const double own = coarse ? kCoarseGelu * std::fmin(std::fabs(z.value), 1)
                                : kGeluUnits * kUnit * std::fmin(std::fabs(z.value), 5.25);
      return {y, 1.13 * z.error + own + kUnit * std::fabs(y) + kTiny};
    }
    case lsif::Activation::kSilu: {
      const double y = silu(z.value);
      return {y, 1.10 * z.error + 8 * kUnit * std::fabs(y) + 3e-37};
    }
  }
  return {};
}

enum class Sums {
  kFloat,
  kBfloat16,
  kTf32,  // kernels/cuda/encoder_linear.cuh
};

// Error of a product if TF32 flushes the lower part of x to 0: its last bit may be below 2^-126.
inline double lost_below_tiny(double x, double w) { return std::fabs(x) < 0x1p-102 ? kTiny * std::fabs(w) : 0; }

// Error bound, in 2^-24 of the sum of magnitudes.
inline double linear_units(Sums sums, int64_t in_dim) {
  if (sums != Sums::kTf32) return static_cast<double>(in_dim + 2);
  return static_cast<double>(in_dim) / 16 + 46;
}

// activation(bias + W x): weight [out_dim, in_dim]; bias may be null.
inline std::vector<Approx> linear(const float* weight, const float* bias, int64_t in_dim, int64_t out_dim,
                                  lsif::Activation activation, const std::vector<Approx>& x, Sums sums = Sums::kFloat) {
  std::vector<Approx> y;
  for (int64_t o = 0; o < out_dim; ++o) {
    Approx z = {bias == nullptr ? 0.0 : bias[o], 0};
    double magnitude = std::fabs(z.value);
    for (int64_t i = 0; i < in_dim; ++i) {
      const double w = weight[o * in_dim + i];
      z.value += w * x[i].value;
      z.error += std::fabs(w) * x[i].error;
      magnitude += std::fabs(w * x[i].value);
      if (sums == Sums::kTf32) z.error += lost_below_tiny(x[i].value, w) + lost_below_tiny(w, x[i].value);
    }
    z.error += linear_units(sums, in_dim) * kUnit * magnitude + kTiny;
    y.push_back(activate(activation, z, sums == Sums::kBfloat16));
  }
  return y;
}

inline std::vector<Approx> exact(const float* x, int64_t n) {
  std::vector<Approx> values;
  for (int64_t i = 0; i < n; ++i) values.push_back({x[i], 0});
  return values;
}

// softmax with the given errors of logits; a kernel's sum has `terms` roundings besides those of the exponentials.
// Whatever the errors of the logits, a weight lies in [0, 1].
inline std::vector<Approx> softmax(const std::vector<Approx>& logits, double terms) {
  double top = -INFINITY;
  for (const Approx& logit : logits) top = std::fmax(top, logit.value);
  std::vector<Approx> p;
  double total = 0;
  double total_error = 0;
  for (const Approx& logit : logits) {
    const double below = logit.value - top;
    const double error = logit.error + kUnit * std::fabs(below);
    p.push_back({std::exp(below), std::exp(below + error) - std::exp(below)});
    total += p.back().value;
    total_error += p.back().error;
  }
  const double relative = total_error / total;
  for (Approx& term : p) {
    term.value /= total;
    term.error = (term.error / total + term.value * (relative + (terms + 12) * kUnit)) * (1 + relative) + kTiny;
    term.error = std::fmin(term.error, 1 + terms * kUnit);
  }
  return p;
}

// sum_j p_j x_j[c] for x rows `stride` apart.
inline std::vector<Approx> weighted_sum(const std::vector<Approx>& p, const float* x, int64_t stride, int64_t dim) {
  std::vector<Approx> y(dim);
  for (int64_t c = 0; c < dim; ++c) {
    double magnitude = 0;
    for (size_t j = 0; j < p.size(); ++j) {
      const double v = x[static_cast<int64_t>(j) * stride + c];
      y[c].value += p[j].value * v;
      y[c].error += p[j].error * std::fabs(v);
      magnitude += p[j].value == 0 ? 0 : std::fabs(p[j].value * v);
    }
    y[c].error += static_cast<double>(p.size() + 2) * kUnit * magnitude + kTiny;
  }
  return y;
}

// One row: ((x - mean) / sqrt(var + eps) * weight + bias) * gate; gate may be null.
inline std::vector<Approx> layer_norm(const float* x, const float* weight, const float* bias, const float* gate,
                                      int64_t dim, double eps) {
  const double n = static_cast<double>(dim);
  double mean = 0, magnitude = 0, variance = 0;
  for (int64_t c = 0; c < dim; ++c) {
    mean += x[c] / n;
    magnitude += std::fabs(x[c]) / n;
  }
  for (int64_t c = 0; c < dim; ++c) variance += (x[c] - mean) * (x[c] - mean) / n;
  // The computed variance is around a mean whose error is at most mean_error; it is then rounded dim + 5 times.
  const double mean_error = (n + 2) * kUnit * magnitude;
  const double spread = mean_error * mean_error;
  const double variance_error = spread + (n + 5) * kUnit * (variance + spread);
  const double scale = 1 / std::sqrt(variance + eps);
  const double scale_error = 0.53 * variance_error / (variance + eps) + 4 * kUnit;
  std::vector<Approx> y;
  for (int64_t c = 0; c < dim; ++c) {
    const double d = x[c] - mean;
    const double z = d * scale;
    const double z_error =
        (mean_error + 2 * kUnit * std::fabs(d)) * scale * (1 + scale_error) + std::fabs(z) * scale_error;
    const double value = z * weight[c] + bias[c];
    const double error = std::fabs(weight[c]) * z_error + 2 * kUnit * (std::fabs(z * weight[c]) + std::fabs(bias[c]));
    const double g = gate == nullptr ? 1.0 : gate[c];
    y.push_back({value * g, std::fabs(g) * (error + kUnit * std::fabs(value)) + kTiny});
  }
  return y;
}

// 0 if unknown, else 1 + the number of boundaries passed; in 128 bits, so that nothing overflows.
inline int64_t bucket(int64_t query_time, int64_t time, const int64_t* boundaries, int64_t num_boundaries) {
  if (query_time == lsif::kUnknownTime || time == lsif::kUnknownTime) return 0;
  const __int128 dt = static_cast<__int128>(query_time) - time;
  int64_t passed = 0;
  for (int64_t b = 0; b < num_boundaries; ++b) passed += boundaries[b] <= (dt > 0 ? dt : 0);
  return 1 + passed;
}

inline constexpr double kWeightRounding = 0x1p-8;  // attention.h: rounding of weights in bfloat16

// Row i of head h: head_dim values.
inline std::vector<Approx> attention(const lsif::AttentionParams& params, const lsif::AttentionInput& input, int64_t h,
                                     int64_t i, double weight_rounding = kWeightRounding) {
  const auto used = [&](float x) { return params.bf16 ? to_bfloat16(x) : x; };
  const int64_t head_dim = params.head_dim;
  const int64_t column = h * head_dim;
  const int64_t key_column = params.shared_keys ? 0 : column;
  const int64_t first = i - params.window + 1 > 0 ? i - params.window + 1 : 0;
  std::vector<Approx> weights;
  for (int64_t j = first; j <= i; ++j) {
    double dot = 0, magnitude = 0;
    for (int64_t c = 0; c < head_dim; ++c) {
      const double q = used(input.q[i * input.q_stride + column + c]);
      const double term = q * used(input.k[j * input.stride + key_column + c]);
      dot += term;
      magnitude += std::fabs(term);
    }
    const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
    const double position = params.position_bias[h * params.window + i - j];
    double time = 0;
    if (params.time_bias != nullptr) {
      const int64_t b = bucket(input.query_times == nullptr ? lsif::kUnknownTime : input.query_times[i],
                               input.times == nullptr ? lsif::kUnknownTime : input.times[j], params.time_boundaries,
                               params.num_time_boundaries);
      time = params.time_bias[h * (params.num_time_boundaries + 2) + b];
    }
    const double error =
        kUnit * (static_cast<double>(head_dim + 7) * magnitude * scale + 4 * std::fabs(position) + 4 * std::fabs(time));
    weights.push_back({dot * scale + position + time, error + kTiny});
  }
  if (params.kind == lsif::AttentionKind::kSoftmax) {
    weights = softmax(weights, static_cast<double>(weights.size()));
  } else {
    for (Approx& weight : weights) {
      weight = activate(lsif::Activation::kSilu, weight);
      weight.value /= static_cast<double>(params.window);
      weight.error = weight.error / static_cast<double>(params.window) + 3 * kUnit * std::fabs(weight.value);
    }
  }
  if (!params.bf16) return weighted_sum(weights, input.v + first * input.stride + key_column, input.stride, head_dim);
  for (Approx& weight : weights) weight.error += weight_rounding * (std::fabs(weight.value) + weight.error);
  std::vector<float> values;
  for (int64_t j = first; j <= i; ++j) {
    for (int64_t c = 0; c < head_dim; ++c) values.push_back(used(input.v[j * input.stride + key_column + c]));
  }
  return weighted_sum(weights, values.data(), head_dim, head_dim);
}

inline double age_in_days(int64_t newest_time, int64_t time) {
  if (newest_time == lsif::kUnknownTime || time == lsif::kUnknownTime || time >= newest_time) return 0;
  const __int128 seconds = static_cast<__int128>(newest_time) - time;
  return static_cast<double>(seconds < INT64_MAX ? seconds : INT64_MAX) / 86400.0;
}

}  // namespace oracle
