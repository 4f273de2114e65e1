// Helpers for float32 rows, shared by the coding of catalogues and of queries.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace lsif::engine {

// The first row of values ([num_rows, dim]) that contains a NaN or an infinity, or -1 if none does.
int64_t check_finite(const float* values, int64_t num_rows, int64_t dim, int threads);

// Throws on NaN or infinity, with the position of one: "argument: expected finite float32 values, got nan at position
// [3, 1]". values: [rows, ...] of this shape, or null for none; its first row is row first_row of the argument.
void require_finite(const std::string& argument, const float* values, std::span<const int64_t> shape, int threads,
                    int64_t first_row = 0);

// max |x_i|; x is finite.
float largest_magnitude(const float* x, int64_t dim);

// The smallest float32 that is 0 or normal and >= x, for x >= 0; infinity if there is none.
float round_up(double x);

}  // namespace lsif::engine
