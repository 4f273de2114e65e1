// The state of a query in the workspace of score_topk.cu, which ends with one QueryBound per query.
#pragma once

#include <cstdint>

namespace lsif::cuda {

// One interest of a query, in the query's unit.
struct VectorBound {
  float scale;
  float norm;
  float missed;      // |q - t p|
  float log_weight;  // with weights: temperature * log(weight); -infinity if the weight is 0
  int32_t start;     // correction for codes stored as unsigned
};

// A multiple of 16 bytes, so that the array ends where the workspace ends.
struct alignas(16) QueryBound {
  int32_t exponent;    // of the unit
  int32_t is_bounded;  // 0: some norm or error exceeds float32, so nothing can be dropped
  float bias_factor;   // remaining factor for the biases
  float log_total;     // temperature * log(sum of weights) and temperature * log(their number), rounded up
  float log_count;
  float threshold;     // rows whose bound is below cannot be among the k best
  uint32_t count;      // rows waiting to be scored exactly
  uint32_t finalists;  // of those, the rows whose key is not above `last`
  uint64_t last;       // k rows have a key, by exact score, that is not above it
};

}  // namespace lsif::cuda
