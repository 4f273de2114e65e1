// Upper bounds of scores from integer codes, with the units and the slack derived in docs/score_topk.md, "Rounding and
// range". Corresponds to csrc/kernels/cpu/topk_query.inl.h, topk_block.inl.h and topk_interests.inl.h, without the
// exponentials of the latter.
#pragma once

#include <cfloat>
#include <cstddef>
#include <cstring>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/topk_keys.cuh"
#include "kernels/cuda/topk_search.h"
#include "kernels/score_topk_bounds.h"

namespace lsif::cuda {

inline constexpr double kRoundingSlack = 0x1p-150;  // 2^-126 on a CPU, where denormals may be flushed
inline constexpr float kInfinity = __builtin_inff();

inline constexpr int kMmaDims = 32;
inline constexpr int kMmaColumns = 8;
inline constexpr int kStepLines = kMmaDims / static_cast<int>(kLineDims);

// Bytes of one query's codes, padded with zeros past dim.
constexpr int64_t code_stride(int64_t dim) { return divide_up(dim, kMmaDims) * kMmaDims; }

__device__ inline float round_up(double x) {
  const auto nearest = static_cast<float>(x);
  return static_cast<double>(nearest) < x ? nextafterf(nearest, kInfinity) : nearest;
}

// Units of the catalogue; `row` and `bias` are 2^-row_exponent and 2^-bias_exponent.
struct CatalogUnits {
  int row_exponent;
  int bias_exponent;
  float row;
  float bias;
};

inline CatalogUnits units_of(const CodesView& codes) {
  const int row = exponent_above(float_bits(codes.row_size));
  const int bias = exponent_above(float_bits(codes.bias_size));
  return {row, bias, power_of_2(-row), power_of_2(-bias)};
}

// The threshold for a key such that at least k rows have keys up to it; -infinity if nothing is known.
__device__ inline float threshold_of(const QueryBound& query, uint64_t last) {
  if (query.is_bounded == 0 || last == kNoRow) return -kInfinity;
  // Scores beyond float32 are kept, too, for callers to refuse, although their bounds are finite.
  const float score = fminf(score_of(last), FLT_MAX);
  const double scaled = ldexp(static_cast<double>(score) - kRoundingSlack, -query.exponent);
  return static_cast<float>(scaled - kUnderflowSlack);
}

// The bytes of a group's first line that are needed for the bounds of two rows: 2 g and 2 g + 1, g = lane / 4.
struct SideBytes {
  uint16_t scales;
  uint16_t errors;
  uint16_t biases;
  uint4 units;
};

__device__ inline SideBytes read_side(const uint8_t* line, int g) {
  const auto pair = [&](size_t offset) { return *reinterpret_cast<const uint16_t*>(line + offset + 2 * g); };
  static_assert(offsetof(GroupSide, scale_unit) == 48 && offsetof(GroupSide, error_unit) == 60);
  return {pair(offsetof(GroupSide, scales)), pair(offsetof(GroupSide, errors)), pair(offsetof(GroupSide, biases)),
          *reinterpret_cast<const uint4*>(line + offsetof(GroupSide, scale_unit))};
}

struct RowBounds {
  float scale[2];
  float error[2];
  float bias[2];
  float code_norm;
};

__device__ inline RowBounds row_bounds(const CatalogUnits& units, const SideBytes& side) {
  const float scale_unit = __uint_as_float(side.units.x) * units.row;
  const float bias_base = __uint_as_float(side.units.y) * units.bias;
  const float bias_unit = __uint_as_float(side.units.z) * units.bias;
  const float error_unit = __uint_as_float(side.units.w << 16);  // both units are upper halves of a float32
  RowBounds rows;
  rows.code_norm = __uint_as_float(side.units.w & 0xffff0000u);
  for (int r = 0; r < 2; ++r) {
    rows.scale[r] = static_cast<float>(side.scales >> 8 * r & 0xff) * scale_unit;
    rows.error[r] = static_cast<float>(side.errors >> 8 * r & 0xff) * error_unit;
    rows.bias[r] = fmaf(static_cast<float>(side.biases >> 8 * r & 0xff), bias_unit, bias_base);
  }
  return rows;
}

// The bracketed part of the bound q.x <= s (t p.c + |q - t p| |c| + |q| r); without kIsBound only t p.c.
template <bool kIsBound>
__device__ inline float unscaled_bound(const VectorBound& vector, const RowBounds& rows, int r, float dot) {
  if constexpr (!kIsBound) return dot * vector.scale;
  return fmaf(dot, vector.scale, fmaf(vector.norm, rows.error[r], rows.code_norm * vector.missed));
}

// The codes of a group's rows in four lines, from line 4 `step` on, as stored: a lane's eight bytes of one line.
__device__ inline uint2 read_pair(const uint8_t* lines, int num_lines, int step, int lane) {
  const int line = step * kStepLines + lane % 4;
  if (line >= num_lines) return uint2{0, 0};
  return *reinterpret_cast<const uint2*>(lines + (line * static_cast<int>(kLineBytes) + lane / 4 * 8));
}

// Arranges codes as rows of a product: rows 2 g and 2 g + 1 in the places of g and g + 8, and dimensions such that the
// halves of a byte are k and k + 16.
__device__ inline MmaA unpack(uint2 pair) {
  constexpr uint32_t kLow = 0x0f0f0f0fu;
  return {{pair.x & kLow, pair.y & kLow, pair.x >> 4 & kLow, pair.y >> 4 & kLow}};
}

// Reads query codes in the same order of dimensions.
__device__ inline MmaB read_query(const int8_t* codes, int step, int lane) {
  const auto pair = *reinterpret_cast<const uint2*>(codes + step * kMmaDims + lane % 4 * 8);
  return {{pair.x, pair.y}};
}

namespace {

constexpr int kSums = 3;

__device__ inline double* shared_doubles() {
  __shared__ double partials[kSums * kThreads / kWarp];
  return partials;
}

}  // namespace

// Sums over the kThreads threads of a block, all of which must call.
__device__ inline void block_sums(double (&x)[kSums]) {
  constexpr int kOfBlock = kThreads / kWarp;
  double* partials = shared_doubles();
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    for (int i = 0; i < kSums; ++i) x[i] += __shfl_xor_sync(0xffffffffu, x[i], offset);
  }
  if (threadIdx.x % kWarp == 0) {
    for (int i = 0; i < kSums; ++i) partials[i * kOfBlock + threadIdx.x / kWarp] = x[i];
  }
  __syncthreads();
  for (int i = 0; i < kSums; ++i) {
    x[i] = 0;
    for (int warp = 0; warp < kOfBlock; ++warp) x[i] += partials[i * kOfBlock + warp];
  }
  __syncthreads();  // the next call writes to them
}

// |q| and |q - t p|, rounded up.
struct VectorSize {
  float norm;
  float error;
};

// Codes one vector as int8, by all threads of a block: scale t = max|q| / 127, or 0 if that is not a normal number.
__device__ inline VectorSize code_vector(const float* q, int64_t dim, int8_t* codes, VectorBound& vector) {
  float largest = 0;
  for (int64_t i = threadIdx.x; i < dim; i += kThreads) largest = fmaxf(largest, fabsf(q[i]));
  vector.scale = block_reduce(largest, Max()) / 127.0f;
  if (vector.scale < FLT_MIN) vector.scale = 0;
  const float inverse = vector.scale == 0 ? 0.0f : 1.0f / vector.scale;
  double sums[kSums] = {};  // of squared errors, of squares, of codes
  for (int64_t i = threadIdx.x; i < code_stride(dim); i += kThreads) {
    const double value = i < dim ? static_cast<double>(q[i]) : 0.0;
    const float ratio = static_cast<float>(value) * inverse;
    const auto rounded = static_cast<int>(ratio + (ratio < 0 ? -0.5f : 0.5f));
    const int code = rounded > 127 ? 127 : rounded < -127 ? -127 : rounded;
    codes[i] = static_cast<int8_t>(code);
    const double missed = value - static_cast<double>(vector.scale) * code;
    sums[0] += missed * missed;
    sums[1] += value * value;
    sums[2] += code;
  }
  block_sums(sums);
  vector.start = -kCodeOffset * static_cast<int32_t>(sums[2]);
  return {round_up(sqrt(sums[1]) * kOutwards), round_up(sqrt(sums[0]) * kOutwards)};
}

// The largest magnitude of a logarithm in the bounds of a query with weights, and its parts.
struct LogSizes {
  double total;  // temperature * log(sum of weights)
  double count;  // temperature * log(number of weights that are not 0)
  double largest;
  int64_t num_used;
};

__device__ inline LogSizes log_sizes(const float* weights, int64_t num_interests, double temperature) {
  LogSizes sizes = {0, 0, 0, 0};
  for (int64_t j = 0; j < num_interests; ++j) {
    if (weights[j] == 0) continue;
    sizes.total += static_cast<double>(weights[j]);
    sizes.largest = fmax(sizes.largest, fabs(temperature * log(static_cast<double>(weights[j]))));
    ++sizes.num_used;
  }
  sizes.total = temperature * log(sizes.total);
  sizes.count = temperature * log(static_cast<double>(sizes.num_used));
  sizes.largest = fmax(sizes.largest, fabs(sizes.total) + sizes.count);
  return sizes;
}

// Converts a query's vectors to its unit. On entry they are as code_vector wrote them, with their sizes in norm and
// missed.
__device__ inline QueryBound start_query(const CatalogUnits& units, const float* weights, double temperature,
                                         int64_t num_interests, VectorBound* vectors) {
  float largest = 0;
  for (int64_t j = 0; j < num_interests; ++j) {
    if (weights == nullptr || weights[j] > 0) largest = fmaxf(largest, fmaxf(vectors[j].norm, vectors[j].missed));
  }
  QueryBound query = {};
  const int vector_exponent = exponent_above(float_bits(largest));
  query.is_bounded = largest < kInfinity ? 1 : 0;
  query.exponent = max(units.bias_exponent, vector_exponent + units.row_exponent);
  LogSizes logs = {0, 0, 0, 0};
  if (weights != nullptr) {
    logs = log_sizes(weights, num_interests, temperature);
    query.exponent = max(query.exponent, exponent_above(float_bits(static_cast<float>(logs.largest))));
    // Only the logarithms' slack, as the CPU's bound with exponentials is not used.
    query.log_total = static_cast<float>(ldexp(logs.total + logs.largest * kLogSlack, -query.exponent));
    query.log_count = static_cast<float>(ldexp(logs.count + logs.largest * kLogSlack, -query.exponent));
  }
  query.bias_factor = power_of_2(units.bias_exponent - query.exponent);
  query.threshold = -kInfinity;
  query.last = kNoRow;
  const float vector_unit = power_of_2(-vector_exponent);
  const float unit_factor = power_of_2(vector_exponent + units.row_exponent - query.exponent);
  for (int64_t j = 0; j < num_interests; ++j) {
    VectorBound& vector = vectors[j];
    const float norm = vector.norm * vector_unit;
    const float error = vector.missed * vector_unit;
    vector.scale = vector.scale * vector_unit * unit_factor;
    vector.norm = (norm + norm * kNormSlack) * unit_factor;
    vector.missed = (error + norm * kNormSlack) * unit_factor;
    vector.log_weight = 0;
    if (weights == nullptr) continue;
    const double log_weight = temperature * log(static_cast<double>(weights[j]));
    vector.log_weight = weights[j] == 0 ? -kInfinity : static_cast<float>(ldexp(log_weight, -query.exponent));
  }
  return query;
}

}  // namespace lsif::cuda
