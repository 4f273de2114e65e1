// The codes of a catalogue as one block of bytes, which can be stored and mapped        (docs/score_topk.md, "Codes")
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/score_topk.h"

namespace lsif::engine {

// The bytes of the codes of so many rows. Throws std::invalid_argument if dim is not in 1 .. kMaxScoreDim.
int64_t codes_size(int64_t num_items, int64_t dim);

// Codes rows of float32 and their biases.
//   vectors [num_items, dim], finite; bias [num_items], finite, or null: zero; codes [codes_size(num_items, dim)]
// The same bytes for any number of threads and on every machine.
void write_codes(const float* vectors, const float* bias, int64_t num_items, int64_t dim, uint8_t* codes, int threads);

// Codes that were written for a catalogue of this shape, in place. Throws std::invalid_argument ("codes: expected ...,
// got ...") if they are not.
CodesView view_codes(const uint8_t* codes, int64_t size, int64_t num_items, int64_t dim);

}  // namespace lsif::engine
