// Small things about rows of float32 that both the codes of a catalogue and those of queries need.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace lsif::engine {

// The first row of values ([num_rows, dim]) that holds a NaN or an infinity, or -1.
int64_t check_finite(const float* values, int64_t num_rows, int64_t dim, int threads);

// Refuses NaN and infinity with the position of one, "argument: expected finite float32 values, got nan at position
// [3, 1]". values: [rows, ...] of this shape, or null: none; they are the rows from first_row on of the argument.
void require_finite(const std::string& argument, const float* values, std::span<const int64_t> shape, int threads,
                    int64_t first_row = 0);

// max |x_i|; x is finite.
float largest_magnitude(const float* x, int64_t dim);

// The smallest float32 that is 0 or normal and not below x >= 0; infinity if there is none.
float round_up(double x);

}  // namespace lsif::engine
