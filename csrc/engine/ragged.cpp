#include "engine/ragged.h"

#include <algorithm>
#include <string>

#include "engine/refuse.h"

namespace lsif::engine {

void check_offsets(const char* argument, const int64_t* offsets, int64_t batch, int64_t total) {
  const auto refuse = [argument](const std::string& expected, const std::string& got) {
    engine::refuse(argument, expected, got);
  };
  if (offsets[0] != 0) refuse("a first value of 0", std::to_string(offsets[0]));
  for (int64_t b = 0; b < batch; ++b) {
    if (offsets[b + 1] < offsets[b]) refuse("non-decreasing values", "a decrease at position " + std::to_string(b + 1));
  }
  if (offsets[batch] != total) {
    refuse("a last value of " + std::to_string(total) + " (the number of rows)", std::to_string(offsets[batch]));
  }
}

void unite(std::span<const RaggedRows> parts, int64_t batch, int64_t* rows, int64_t* offsets) {
  offsets[0] = 0;
  for (int64_t member = 0; member < batch; ++member) {
    int64_t* begin = rows + offsets[member];
    int64_t* end = begin;
    for (const RaggedRows& part : parts) {
      if (part.offsets == nullptr) continue;
      end = std::copy(part.rows + part.offsets[member], part.rows + part.offsets[member + 1], end);
    }
    std::sort(begin, end);
    offsets[member + 1] = std::unique(begin, end) - rows;
  }
}

}  // namespace lsif::engine
