#include "engine/float_rows.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>

#include "engine/refuse.h"
#include "engine/thread_pool.h"
#include "kernels/types.h"

namespace lsif::engine {
namespace {

constexpr int64_t kValuesPerTask = 1 << 18;

int64_t rows_per_task(int64_t dim) { return std::max<int64_t>(1, kValuesPerTask / std::max<int64_t>(dim, 1)); }

bool is_finite_row(const float* x, int64_t dim) {
  constexpr uint32_t kExponent = 0x7f800000;  // the exponent is all ones only in infinities and NaNs
  uint32_t num_bad = 0;
  for (int64_t i = 0; i < dim; ++i) num_bad += (std::bit_cast<uint32_t>(x[i]) & kExponent) == kExponent ? 1 : 0;
  return num_bad == 0;
}

// The position of values[index] in this shape: [3, 1].
std::string position_of(int64_t index, std::span<const int64_t> shape, int64_t first_row) {
  std::string position = "]";
  for (size_t axis = shape.size(); axis-- > 0;) {
    const int64_t place = index % shape[axis] + (axis == 0 ? first_row : 0);
    position = (axis == 0 ? "[" : ", ") + std::to_string(place) + position;
    index /= shape[axis];
  }
  return position;
}

}  // namespace

float largest_magnitude(const float* x, int64_t dim) {
  // Non-negative floats order like their bits; integer maxima vectorize.
  constexpr int32_t kMagnitude = 0x7fffffff;
  int32_t largest = 0;
  for (int64_t i = 0; i < dim; ++i) largest = std::max(largest, std::bit_cast<int32_t>(x[i]) & kMagnitude);
  return std::bit_cast<float>(largest);
}

float round_up(double x) {
  if (x == 0) return 0;
  if (x > static_cast<double>(std::numeric_limits<float>::max())) return std::numeric_limits<float>::infinity();
  const float nearest = std::max(static_cast<float>(x), std::numeric_limits<float>::min());
  return static_cast<double>(nearest) < x ? std::nextafter(nearest, std::numeric_limits<float>::infinity()) : nearest;
}

int64_t check_finite(const float* values, int64_t num_rows, int64_t dim, int threads) {
  const int64_t step = rows_per_task(dim);
  std::atomic<int64_t> first_bad{num_rows};
  parallel_for(divide_up(num_rows, step), threads, [&](int64_t task) {
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

void require_finite(const std::string& argument, const float* values, std::span<const int64_t> shape, int threads,
                    int64_t first_row) {
  if (values == nullptr) return;
  int64_t dim = 1;
  for (const int64_t size : shape.subspan(1)) dim *= size;
  const int64_t row = check_finite(values, shape[0], dim, threads);
  if (row < 0) return;
  const float* bad = values + row * dim;
  const float* last = bad + dim - 1;  // another thread may change the values meanwhile
  while (bad < last && std::isfinite(*bad)) ++bad;
  refuse(argument, "finite float32 values",
         std::string(std::isnan(*bad) ? "nan" : (*bad > 0 ? "inf" : "-inf")) + " at position " +
             position_of(bad - values, shape, first_row));
}

}  // namespace lsif::engine
