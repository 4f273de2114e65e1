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

void quantize_row(const float* x, int64_t dim, int8_t* codes, float* scale, float* error, float* norm) {
  float largest = 0;
  for (int64_t i = 0; i < dim; ++i) largest = std::max(largest, std::fabs(x[i]));
  *scale = largest / 127.0f;
  if (*scale < std::numeric_limits<float>::min()) *scale = 0;
  const float inverse = *scale == 0 ? 0.0f : 1.0f / *scale;
  double squared_error = 0;
  double squared_norm = 0;
  for (int64_t i = 0; i < dim; ++i) {
    const float ratio = std::clamp(x[i] * inverse, -127.0f, 127.0f);
    codes[i] = static_cast<int8_t>(ratio + (ratio < 0 ? -0.5f : 0.5f));
    const double coded = static_cast<double>(*scale) * static_cast<double>(codes[i]);
    const double missed = static_cast<double>(x[i]) - coded;
    squared_error += missed * missed;
    squared_norm += coded * coded;
  }
  std::memset(codes + dim, 0, static_cast<size_t>(code_stride(dim) - dim));
  // Far above the rounding of the sums, which is below dim 2^-52.
  constexpr double kOutwards = 1 + 0x1p-30;
  *error = round_up(std::sqrt(squared_error) * kOutwards);
  *norm = round_up(std::sqrt(squared_norm) * kOutwards);
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
