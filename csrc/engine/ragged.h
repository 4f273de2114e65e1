// Ragged batches: so many rows for each member.
#pragma once

#include <cstdint>
#include <span>

namespace lsif::engine {

// offsets [batch + 1] of a ragged batch of `total` rows, row offsets[b] being the first of member b: from 0,
// non-decreasing, up to total. Throws std::invalid_argument, "argument: expected ..., got ...".
void check_offsets(const char* argument, const int64_t* offsets, int64_t batch, int64_t total);

// Those of member b are rows[offsets[b]] .. rows[offsets[b + 1] - 1], in any order and perhaps several times.
struct RaggedRows {
  const int64_t* rows;
  const int64_t* offsets;  // [batch + 1]; or both null: no rows
};

// The rows that any of the parts, whose offsets are checked, has for a member, strictly increasing. `rows` has room for
// all rows of all parts, `offsets` for batch + 1 values.
void unite(std::span<const RaggedRows> parts, int64_t batch, int64_t* rows, int64_t* offsets);

}  // namespace lsif::engine
