// Ragged batches.
#pragma once

#include <cstdint>

namespace lsif::engine {

// offsets [batch + 1] of a ragged batch of `total` rows, row offsets[b] being the first of member b: from 0,
// non-decreasing, up to total. Throws std::invalid_argument, "argument: expected ..., got ...".
void check_offsets(const char* argument, const int64_t* offsets, int64_t batch, int64_t total);

}  // namespace lsif::engine
