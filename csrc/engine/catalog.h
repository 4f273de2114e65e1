// Preparing rows for score_topk: int8 codes with rigorous bounds of what they miss    (docs/score_topk.md)
#pragma once

#include <cstdint>

#include "kernels/score_topk.h"

namespace lsif::engine {

// The first row of values ([num_rows, dim]) that holds a NaN or an infinity, or -1.
int64_t check_finite(const float* values, int64_t num_rows, int64_t dim, int threads);

// Codes rows of float32, symmetric per row: scale = max|x| / 127, code = x / scale to the nearest.
//   vectors  [num_rows, dim], finite
//   codes    [num_rows, code_stride(dim)], in [-127, 127]; zero past dim
//   scales   [num_rows], zero (then the codes are, too) where max|x| / 127 is below the normal float32 numbers
//   errors   [num_rows], >= |x - scale * code|, and either 0 or a normal number; infinity if beyond float32
//   norms    [num_rows], >= |scale * code|, likewise
// The bounds are computed in float64 and rounded up. Throws std::invalid_argument if dim is not in 1 .. kMaxScoreDim.
void quantize_rows(const float* vectors, int64_t num_rows, int64_t dim, int8_t* codes, float* scales, float* errors,
                   float* norms, int threads);

// The smallest float32 that is 0 or normal and not below x >= 0; infinity if there is none.
float round_up(double x);

}  // namespace lsif::engine
