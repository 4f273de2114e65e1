#include "engine/catalog.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "engine/thread_pool.h"

namespace lsif::engine {
namespace {

constexpr int64_t kValuesPerTask = 1 << 18;

int64_t rows_per_task(int64_t dim) { return std::max<int64_t>(1, kValuesPerTask / std::max<int64_t>(dim, 1)); }

bool is_finite_row(const float* x, int64_t dim) {
  constexpr uint32_t kExponent = 0x7f800000;  // all ones in infinities and NaNs only
  uint32_t num_bad = 0;
  for (int64_t i = 0; i < dim; ++i) num_bad += (std::bit_cast<uint32_t>(x[i]) & kExponent) == kExponent ? 1 : 0;
  return num_bad == 0;
}

float largest_magnitude(const float* x, int64_t dim) {
  // Bits of non-negative floats have the floats' order; integer maxima vectorize.
  constexpr int32_t kMagnitude = 0x7fffffff;
  int32_t largest = 0;
  for (int64_t i = 0; i < dim; ++i) largest = std::max(largest, std::bit_cast<int32_t>(x[i]) & kMagnitude);
  return std::bit_cast<float>(largest);
}

// sum_i (x_i - scale c_i)^2 and sum_i (scale c_i)^2.
struct Squares {
  double error;
  double norm;
};

Squares sum_squares(const float* x, const int8_t* codes, float scale, int64_t dim) {
  constexpr int64_t kSums = 4;  // independent sums, for the sake of vectors
  double error[kSums] = {};
  double norm[kSums] = {};
  const auto add = [&](int64_t i, int64_t j) {
    const double coded = static_cast<double>(scale) * static_cast<double>(codes[i]);
    const double missed = static_cast<double>(x[i]) - coded;
    error[j] += missed * missed;
    norm[j] += coded * coded;
  };
  int64_t i = 0;
  for (; i + kSums <= dim; i += kSums) {
    for (int64_t j = 0; j < kSums; ++j) add(i + j, j);
  }
  for (int64_t j = 0; i + j < dim; ++j) add(i + j, j);
  return {(error[0] + error[1]) + (error[2] + error[3]), (norm[0] + norm[1]) + (norm[2] + norm[3])};
}

void quantize_row(const float* x, int64_t dim, int8_t* codes, float* scale, float* error, float* norm) {
  *scale = largest_magnitude(x, dim) / 127.0f;
  if (*scale < std::numeric_limits<float>::min()) *scale = 0;
  const float inverse = *scale == 0 ? 0.0f : 1.0f / *scale;
  for (int64_t i = 0; i < dim; ++i) {
    const float ratio = x[i] * inverse;
    const int32_t code = static_cast<int32_t>(ratio + (ratio < 0 ? -0.5f : 0.5f));
    codes[i] = static_cast<int8_t>(std::clamp(code, -127, 127));
  }
  std::memset(codes + dim, 0, static_cast<size_t>(code_stride(dim) - dim));
  const Squares squares = sum_squares(x, codes, *scale, dim);
  // Far above the rounding of the sums, which is below dim 2^-52.
  constexpr double kOutwards = 1 + 0x1p-30;
  *error = round_up(std::sqrt(squares.error) * kOutwards);
  *norm = round_up(std::sqrt(squares.norm) * kOutwards);
}

}  // namespace

float round_up(double x) {
  if (x == 0) return 0;
  if (x > static_cast<double>(std::numeric_limits<float>::max())) return std::numeric_limits<float>::infinity();
  const float nearest = std::max(static_cast<float>(x), std::numeric_limits<float>::min());
  return static_cast<double>(nearest) < x ? std::nextafter(nearest, std::numeric_limits<float>::infinity()) : nearest;
}

int64_t check_finite(const float* values, int64_t num_rows, int64_t dim, int threads) {
  const int64_t step = rows_per_task(dim);
  std::atomic<int64_t> first_bad{num_rows};
  parallel_for((num_rows + step - 1) / step, threads, [&](int64_t task) {
    const int64_t end = std::min(num_rows, (task + 1) * step);
    for (int64_t row = task * step; row < end; ++row) {
      if (is_finite_row(values + row * dim, dim)) continue;
      int64_t known = first_bad.load();
      while (row < known && !first_bad.compare_exchange_weak(known, row)) {
      }
      return;
    }
  });
  return first_bad.load() == num_rows ? -1 : first_bad.load();
}

void quantize_rows(const float* vectors, int64_t num_rows, int64_t dim, int8_t* codes, float* scales, float* errors,
                   float* norms, int threads) {
  if (dim < 1 || dim > kMaxScoreDim) {
    throw std::invalid_argument("vectors: expected 1 to " + std::to_string(kMaxScoreDim) + " dimensions, got " +
                                std::to_string(dim));
  }
  const int64_t stride = code_stride(dim);
  const int64_t step = rows_per_task(dim);
  parallel_for((num_rows + step - 1) / step, threads, [&](int64_t task) {
    const int64_t end = std::min(num_rows, (task + 1) * step);
    for (int64_t row = task * step; row < end; ++row) {
      quantize_row(vectors + row * dim, dim, codes + row * stride, scales + row, errors + row, norms + row);
    }
  });
}

}  // namespace lsif::engine
