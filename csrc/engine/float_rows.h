// Small things about rows of float32 that both the codes of a catalogue and those of queries need.
#pragma once

#include <cstdint>

namespace lsif::engine {

// The first row of values ([num_rows, dim]) that holds a NaN or an infinity, or -1.
int64_t check_finite(const float* values, int64_t num_rows, int64_t dim, int threads);

// max |x_i|; x is finite.
float largest_magnitude(const float* x, int64_t dim);

// The smallest float32 that is 0 or normal and not below x >= 0; infinity if there is none.
float round_up(double x);

}  // namespace lsif::engine
