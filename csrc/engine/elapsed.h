// Seconds from one known time to another                                                             (docs/model.md)
#pragma once

#include <cstdint>
#include <limits>

namespace lsif::engine {

// max(to - from, 0), saturated at INT64_MAX as in the kernels: the difference of two int64 may be up to 2^64 - 1.
inline int64_t elapsed(int64_t from, int64_t to) {
  if (to <= from) return 0;
  const uint64_t difference = static_cast<uint64_t>(to) - static_cast<uint64_t>(from);
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  return static_cast<int64_t>(difference < kMost ? difference : kMost);
}

}  // namespace lsif::engine
