// Sets of rows, one a member of a batch.
#pragma once

#include <cstdint>
#include <span>

namespace lsif::engine {

// Those of member b are rows[offsets[b]] .. rows[offsets[b + 1] - 1], in any order and perhaps several times.
struct RaggedRows {
  const int64_t* rows;
  const int64_t* offsets;  // [batch + 1], checked
};

// The rows that any of the parts has for a member, strictly increasing. `rows` has room for all rows of all parts,
// `offsets` for batch + 1 values.
void unite(std::span<const RaggedRows> parts, int64_t batch, int64_t* rows, int64_t* offsets);

}  // namespace lsif::engine
