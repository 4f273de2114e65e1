// Seconds from one known time to another                                                             (docs/model.md)
#pragma once

#include <cstdint>

namespace lsif {

// max(to - from, 0), saturated at INT64_MAX: the difference of two int64 can be as large as 2^64 - 1. Always inlined,
// so that kernels compiled for different instruction sets do not share one copy.
__attribute__((always_inline)) constexpr int64_t elapsed(int64_t from, int64_t to) {
  if (to <= from) return 0;
  const uint64_t difference = static_cast<uint64_t>(to) - static_cast<uint64_t>(from);
  return difference > static_cast<uint64_t>(INT64_MAX) ? INT64_MAX : static_cast<int64_t>(difference);
}

}  // namespace lsif
