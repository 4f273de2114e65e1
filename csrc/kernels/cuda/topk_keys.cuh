// Keys of scored rows, and the smallest of many, by the threads of a block.
#pragma once

#include "kernels/cuda/device.cuh"

namespace lsif::cuda {

// A row and its score are one 64-bit key whose ascending order is the contract's: higher scores first, then lower rows.
inline constexpr uint64_t kNoRow = UINT64_MAX;  // sorts last

// -0 counts as 0.
__device__ inline uint64_t key_of(float score, int64_t item) {
  const uint32_t bits = __float_as_uint(score == 0.0f ? 0.0f : score);
  const uint32_t descending = (bits & 0x80000000u) != 0 ? bits : ~(bits | 0x80000000u);
  return static_cast<uint64_t>(descending) << 32 | static_cast<uint64_t>(item);
}

__device__ inline float score_of(uint64_t key) {
  const auto descending = static_cast<uint32_t>(key >> 32);
  return __uint_as_float((descending & 0x80000000u) != 0 ? descending : ~descending & 0x7fffffffu);
}

__device__ inline int64_t item_of(uint64_t key) { return static_cast<int64_t>(key & 0xffffffffu); }

inline constexpr int kDigits = 256;
inline constexpr int64_t kSharedKeys = 2048;

// The digit that holds the k-th smallest of the keys that agree in all digits before it.
struct Digit {
  unsigned digit;
  unsigned count;   // of keys with this digit
  unsigned before;  // with smaller ones
};

namespace {

__device__ inline unsigned* shared_counts() {
  __shared__ unsigned counts[kDigits];
  return counts;
}

__device__ inline Digit* shared_digit() {
  __shared__ Digit digit;
  return &digit;
}

__device__ inline uint64_t* shared_keys() {
  __shared__ uint64_t keys[kSharedKeys];
  return keys;
}

}  // namespace

// By the first warp, from counts of the digits.
__device__ inline void find_digit(const unsigned* counts, unsigned k, Digit* found) {
  constexpr int kEach = kDigits / kWarp;
  const int lane = static_cast<int>(threadIdx.x);
  unsigned sum = 0;
  for (int i = 0; i < kEach; ++i) sum += counts[lane * kEach + i];
  unsigned up_to = sum;
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const unsigned below = __shfl_up_sync(0xffffffffu, up_to, offset);
    if (lane >= offset) up_to += below;
  }
  unsigned before = up_to - sum;
  if (before >= k || up_to < k) return;
  int digit = lane * kEach;
  for (; before + counts[digit] < k; ++digit) before += counts[digit];
  *found = {static_cast<unsigned>(digit), counts[digit], before};
}

// A bound that just k of n keys do not exceed (more only where kNoRow is among these); 1 <= k <= n. By all threads of
// the block, which must be at least kWarp.
__device__ inline uint64_t kth_smallest(const uint64_t* keys, int64_t n, int64_t k) {
  unsigned* counts = shared_counts();
  Digit* found = shared_digit();
  auto left = static_cast<unsigned>(k);
  uint64_t prefix = 0;
  uint64_t known = 0;  // the bits that are decided
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += static_cast<int>(blockDim.x)) counts[i] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      if (((keys[i] ^ prefix) & known) == 0) atomicAdd(&counts[keys[i] >> shift & 0xff], 1u);
    }
    __syncthreads();
    if (threadIdx.x < kWarp) find_digit(counts, left, found);
    __syncthreads();
    const Digit digit = *found;
    prefix |= static_cast<uint64_t>(digit.digit) << shift;
    known |= uint64_t{0xff} << shift;
    left -= digit.before;
    if (digit.count == left) break;  // all of them: no need to tell them apart
    __syncthreads();                 // the next round writes to both
  }
  __syncthreads();  // so does the next call
  return prefix | ~known;
}

// Sorts n keys, a power of two of them: a bitonic network, by all threads of the block.
__device__ inline void sort_keys(uint64_t* keys, int64_t n) {
  for (int64_t size = 2; size <= n; size *= 2) {
    for (int64_t step = size / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int64_t pair = threadIdx.x; pair < n / 2; pair += blockDim.x) {
        const int64_t i = pair / step * 2 * step + pair % step;
        const bool is_ascending = (i & size) == 0;
        if ((keys[i] > keys[i + step]) == is_ascending) {
          const uint64_t key = keys[i];
          keys[i] = keys[i + step];
          keys[i + step] = key;
        }
      }
    }
  }
  __syncthreads();
}

}  // namespace lsif::cuda
