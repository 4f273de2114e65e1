#include "engine/group_coder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/float_rows.h"
#include "kernels/score_topk_bounds.h"

namespace lsif::engine {
namespace {

// Ratios max|x| / scale that are tried: the less a row's largest values stand out, the fewer steps it needs.
constexpr float kSteps[] = {7.0f, 7.6f, 8.3f, 9.0f, 9.8f, 10.8f, 12.0f, 14.0f};

// The largest ratio of the members' radius to their centre's scale.
constexpr double kRadiusSteps = 64;

// The smallest power of two that is at least x, in [2^low, 2^127].
float power_of_2_at_least(double x, int low) {
  int exponent = 0;
  const double fraction = std::frexp(x, &exponent);  // in [0.5, 1), or 0
  if (fraction == 0.5) --exponent;
  return std::ldexp(1.0f, std::clamp(x == 0 ? low : exponent, low, 127));
}

int32_t code_of(float x, float inverse) {
  const float ratio = x * inverse;
  const auto code = static_cast<int32_t>(ratio + (ratio < 0 ? -0.5f : 0.5f));
  return std::clamp(code, -kCodeOffset, kCodeOffset - 1);
}

float squared_error(const float* x, int64_t dim, float inverse) {
  constexpr int64_t kSums = 8;
  float sums[kSums] = {};
  const auto add = [&](int64_t i, int64_t j) {
    const float missed = x[i] * inverse - static_cast<float>(code_of(x[i], inverse));
    sums[j] += missed * missed;
  };
  int64_t i = 0;
  for (; i + kSums <= dim; i += kSums) {
    for (int64_t j = 0; j < kSums; ++j) add(i + j, j);
  }
  for (int64_t j = 0; i + j < dim; ++j) add(i + j, j);
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

// Of the scales tried, the one with the least error for x; a normal number, or 0 if x is zero.
float best_scale(const float* x, int64_t dim) {
  const float largest = largest_magnitude(x, dim);
  if (largest == 0) return 0;
  float best = std::max(largest / kSteps[0], std::numeric_limits<float>::min());
  float least = std::numeric_limits<float>::infinity();
  for (const float steps : kSteps) {
    const float scale = largest / steps;
    if (scale < std::numeric_limits<float>::min()) break;
    const float error = std::sqrt(squared_error(x, dim, 1.0f / scale)) / steps;  // in units of the largest
    if (error >= least) continue;
    least = error;
    best = scale;
  }
  return best;
}

// For x >= 0, the upper half of the smallest float32 >= x whose lower half is zero.
uint16_t upper_half_above(double x) {
  const auto bits = std::bit_cast<uint32_t>(round_up(x));
  return static_cast<uint16_t>((bits + 0xffff) >> 16);
}

// |x - centre|; the function `centre` gives the centre's values.
template <typename Centre>
double distance(const float* x, int64_t dim, Centre centre) {
  constexpr int64_t kSums = 4;  // independent sums, so that the loop vectorizes
  double missed[kSums] = {};
  const auto add = [&](int64_t i, int64_t j) {
    const double error = static_cast<double>(x[i]) - centre(i);
    missed[j] += error * error;
  };
  int64_t i = 0;
  for (; i + kSums <= dim; i += kSums) {
    for (int64_t j = 0; j < kSums; ++j) add(i + j, j);
  }
  for (int64_t j = 0; i + j < dim; ++j) add(i + j, j);
  return std::sqrt((missed[0] + missed[1]) + (missed[2] + missed[3]));
}

template <typename Centre>
double radius(const Members& members, int64_t dim, Centre centre) {
  double farthest = 0;
  for (int64_t i = 0; i < members.count; ++i) farthest = std::max(farthest, distance(members.rows[i], dim, centre));
  return farthest;
}

uint8_t steps_above(double x, double unit) {
  if (x == 0) return 0;
  return static_cast<uint8_t>(std::min(255.0, std::max(1.0, std::ceil(x / unit))));
}

}  // namespace

double radius(const Members& members, int64_t dim, const float* centre) {
  return radius(members, dim, [&](int64_t i) { return static_cast<double>(centre[i]); });
}

float GroupCoder::row_size() const { return round_up(row_size_); }

void GroupCoder::write(const RowGroup& group, const Members* members, uint8_t* lines) {
  group_ = group;
  members_ = members;
  std::memset(lines, 0, static_cast<size_t>(group_bytes(dim_)));
  GroupSide side{};
  write_biases(side);
  write_rows(side);
  std::memcpy(lines, &side, sizeof(side));
  for (int64_t r = 0; r < group_.count; ++r) {
    for (int64_t i = 0; i < dim_; ++i) {
      const int64_t in_line = i % kLineDims;
      uint8_t& pair = lines[(1 + i / kLineDims) * kLineBytes + r * 4 + in_line % 4];
      pair |= static_cast<uint8_t>((codes_[r * dim_ + i] + kCodeOffset) << (in_line < 4 ? 0 : 4));
    }
  }
}

// The base is a multiple of the unit; both are chosen so that base + 255 units is exact in float32.
void GroupCoder::write_biases(GroupSide& side) {
  const float* bias = group_.biases;
  const auto [low, high] = std::minmax_element(bias, bias + group_.count);
  const float largest = std::max(std::fabs(*low), std::fabs(*high));
  bias_size_ = std::max(bias_size_, largest);
  if (largest == 0) return;
  const double range = (static_cast<double>(*high) - static_cast<double>(*low)) / 254;
  const double unit = power_of_2_at_least(std::max(range, std::ldexp(static_cast<double>(largest), -23)), -126);
  // One unit less might be -2^128, which float32 does not have; rows below the base still have a valid bound.
  const double base = std::max(std::floor(static_cast<double>(*low) / unit) * unit, unit - 0x1p128);
  side.bias_unit = static_cast<float>(unit);
  side.bias_base = static_cast<float>(base);
  for (int64_t r = 0; r < group_.count; ++r) {
    side.biases[r] = steps_above(static_cast<double>(bias[r]) - base, unit);
    // If the base is far larger, the difference may have been rounded to less than needed; this sum is exact.
    if (base + unit * side.biases[r] < static_cast<double>(bias[r])) ++side.biases[r];
  }
}

void GroupCoder::write_rows(GroupSide& side) {
  float wanted[kGroupRows] = {};
  for (int64_t r = 0; r < group_.count; ++r) wanted[r] = wanted_scale(r);
  const float largest = *std::max_element(wanted, wanted + group_.count);
  side.scale_unit = power_of_2_at_least(static_cast<double>(largest) / 255, -126);
  RowBounds bounds[kGroupRows] = {};
  double code_norm = 0;
  double error_ratio = 0;
  for (int64_t r = 0; r < group_.count; ++r) {
    bounds[r] = write_row(r, wanted[r], side);
    code_norm = std::max(code_norm, bounds[r].code_norm);
    error_ratio = std::max(error_ratio, bounds[r].error_ratio);
  }
  const float error_unit = power_of_2_at_least(error_ratio / 255, -126);
  side.error_unit = upper_half_above(static_cast<double>(error_unit));
  side.code_norm = upper_half_above(code_norm);
  double size = 0;
  for (int64_t r = 0; r < group_.count; ++r) {
    side.errors[r] = steps_above(bounds[r].error_ratio, static_cast<double>(error_unit));
    const double bound = bounds[r].code_norm + static_cast<double>(error_unit) * side.errors[r];
    size = std::max(size, static_cast<double>(side.scale_unit) * side.scales[r] * bound);
  }
  if (size * kOutwards > static_cast<double>(std::numeric_limits<float>::max())) {
    side = GroupSide{};
    side.bias_base = std::numeric_limits<float>::infinity();
    has_unbounded_ = true;
  } else {
    row_size_ = std::max(row_size_, size * kOutwards);
  }
}

GroupCoder::RowBounds GroupCoder::write_row(int64_t r, float wanted, GroupSide& side) {
  const float steps = std::round(wanted / side.scale_unit);
  side.scales[r] = wanted == 0 ? 0 : static_cast<uint8_t>(std::clamp(steps, 1.0f, 255.0f));
  const float scale = side.scale_unit * static_cast<float>(side.scales[r]);
  const float inverse = scale == 0 ? 0.0f : 1.0f / scale;
  int32_t* codes = codes_.data() + r * dim_;
  for (int64_t i = 0; i < dim_; ++i) codes[i] = code_of(group_.rows[r][i], inverse);
  return bounds_of(r, static_cast<double>(scale));
}

GroupCoder::RowBounds GroupCoder::bounds_of(int64_t r, double scale) const {
  const int32_t* codes = codes_.data() + r * dim_;
  const auto coded = [&](int64_t i) { return scale * static_cast<double>(codes[i]); };
  int64_t norm = 0;
  for (int64_t i = 0; i < dim_; ++i) norm += codes[i] * codes[i];
  const double error = (members_ == nullptr ? distance(group_.rows[r], dim_, coded) : radius(members_[r], dim_, coded));
  return {std::sqrt(static_cast<double>(norm)) * kOutwards, scale == 0 ? 0.0 : error * kOutwards / scale * kOutwards};
}

// A centre's scale must not be far below the members' radius, which is stored in units of it: a centre may be zero.
float GroupCoder::wanted_scale(int64_t r) const {
  const float* x = group_.rows[r];
  const float scale = best_scale(x, dim_);
  if (members_ == nullptr) return scale;
  const double size = radius(members_[r], dim_, x);
  if (size == 0) return scale;
  constexpr double kLeast = std::numeric_limits<float>::min();
  constexpr double kMost = std::numeric_limits<float>::max() / 8;
  return std::max(scale, static_cast<float>(std::clamp(size / kRadiusSteps, kLeast, kMost)));
}

}  // namespace lsif::engine
