#include "engine/ragged_union.h"

#include <algorithm>

namespace lsif::engine {

void unite(std::span<const RaggedRows> parts, int64_t batch, int64_t* rows, int64_t* offsets) {
  offsets[0] = 0;
  for (int64_t member = 0; member < batch; ++member) {
    int64_t* begin = rows + offsets[member];
    int64_t* end = begin;
    for (const RaggedRows& part : parts) {
      end = std::copy(part.rows + part.offsets[member], part.rows + part.offsets[member + 1], end);
    }
    std::sort(begin, end);
    offsets[member + 1] = std::unique(begin, end) - rows;
  }
}

}  // namespace lsif::engine
