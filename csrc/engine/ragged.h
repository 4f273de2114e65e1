// Ragged batches: each member has its own number of rows.
#pragma once

#include <cstdint>
#include <span>

namespace lsif::engine {

// Checks the offsets [batch + 1] of a ragged batch of `total` rows, whose member b begins at row offsets[b]: from 0,
// non-decreasing, up to total. Throws std::invalid_argument, "argument: expected ..., got ...".
void check_offsets(const char* argument, const int64_t* offsets, int64_t batch, int64_t total);

// Member b has rows[offsets[b]] .. rows[offsets[b + 1] - 1], in any order and possibly repeated.
struct RaggedRows {
  const int64_t* rows;
  const int64_t* offsets;  // [batch + 1]. If both are null there are no rows
};

// For each member the union of its rows in all parts, strictly increasing. The offsets of the parts have been checked.
// `rows` has room for all rows of all parts, `offsets` for batch + 1 values.
void unite(std::span<const RaggedRows> parts, int64_t batch, int64_t* rows, int64_t* offsets);

}  // namespace lsif::engine
