// What score_topk.cu keeps of a query in its workspace, which ends with one QueryBound for each.
#pragma once

#include <cstdint>

namespace lsif::cuda {

// One interest of a query, in its query's unit.
struct VectorBound {
  float scale;
  float norm;
  float missed;      // |q - t p|
  float log_weight;  // with weights: temperature * log(weight); -infinity where the weight is 0
  int32_t start;     // what makes unsigned codes signed
};

// A multiple of 16 bytes, so that they end where the workspace ends.
struct alignas(16) QueryBound {
  int32_t exponent;    // of the unit
  int32_t is_bounded;  // 0: some norm or error is beyond float32, nothing can be dropped
  float bias_factor;   // what is left to multiply biases by
  float log_total;     // temperature * log(sum of weights) and temperature * log(their number), rounded up
  float log_count;
  float threshold;     // rows whose bound is below cannot be among the k best
  uint32_t count;      // of rows that wait for being scored exactly
  uint32_t finalists;  // of those the rows whose key is not above `last`
  uint64_t last;       // k rows have a key of their exact score that is not above it
};

}  // namespace lsif::cuda
