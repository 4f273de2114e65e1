// Types shared by the kernel contracts. Kernels are pure functions on raw pointers: no torch, no Python, no allocation,
// no threads. Matrices are row-major float32; a `stride` is the distance between two rows, in elements.
#pragma once

#include <cstdint>
#include <limits>

namespace lsif {

enum class Activation : int32_t { kIdentity = 0, kRelu = 1, kGelu = 2, kSilu = 3 };

// Marks an event whose time is unknown.
inline constexpr int64_t kUnknownTime = std::numeric_limits<int64_t>::min();

inline constexpr double kSecondsPerDay = 86400;

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace lsif
