// Keys of scored rows, and selection of the smallest, by the threads of a block.
#pragma once

#include "kernels/cuda/device.cuh"

namespace lsif::cuda {

// A row and its score form one 64-bit key. Ascending keys are in the contract's order: higher scores first, then lower
// rows.
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

inline constexpr int kDigitBits = 10;
inline constexpr int kDigits = 1 << kDigitBits;
inline constexpr int64_t kSharedKeys = 2048;
inline constexpr int kFewKeys = 64;  // up to this many are selected by comparing all with all

// The digit of the k-th smallest key, among keys that agree in all earlier digits.
struct Digit {
  unsigned digit;
  unsigned count;   // keys with this digit
  unsigned before;  // keys with a smaller digit
};

// The range of the keys other than kNoRow.
struct KeyRange {
  uint64_t least;
  uint64_t most;
  unsigned count;
};

namespace {

// Has a gap after every 32 counts, so that lanes that read every 32nd count access different banks.
__device__ inline unsigned* shared_counts() {
  __shared__ unsigned counts[kDigits + kDigits / kWarp];
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

__device__ inline uint64_t* shared_few() {
  __shared__ uint64_t keys[kFewKeys + 1];  // plus the key searched for
  return keys;
}

__device__ inline unsigned* shared_number() {
  __shared__ unsigned number;
  return &number;
}

__device__ inline KeyRange* shared_ranges() {
  __shared__ KeyRange ranges[kWarp];
  return ranges;
}

}  // namespace

__device__ inline int count_place(int digit) { return digit + digit / kWarp; }

// Joins the ranges of a warp.
__device__ inline KeyRange join(KeyRange range) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const uint64_t least = __shfl_xor_sync(0xffffffffu, range.least, offset);
    const uint64_t most = __shfl_xor_sync(0xffffffffu, range.most, offset);
    range.least = least < range.least ? least : range.least;
    range.most = most > range.most ? most : range.most;
    range.count += __shfl_xor_sync(0xffffffffu, range.count, offset);
  }
  return range;
}

// n keys, divided among the threads of a block. A thread loads kAtOnce of them before it uses the first.
struct BlockKeys {
  static constexpr int kAtOnce = 4;

  const uint64_t* keys;
  int64_t n;

  // The thread's keys among the next kAtOnce * blockDim.x, kNoRow past the last one.
  __device__ void load(int64_t first, uint64_t (&own)[kAtOnce]) const {
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t place = first + i * static_cast<int64_t>(blockDim.x) + threadIdx.x;
      own[i] = place < n ? keys[place] : kNoRow;
    }
  }

  // Calls f(key) for each of the thread's keys other than kNoRow.
  template <typename F>
  __device__ void each(F f) const {
    for (int64_t first = 0; first < n; first += kAtOnce * static_cast<int64_t>(blockDim.x)) {
      uint64_t own[kAtOnce];
      load(first, own);
      for (const uint64_t key : own) {
        if (key != kNoRow) f(key);
      }
    }
  }
};

// By all threads of the block.
__device__ inline KeyRange key_range(const BlockKeys& keys) {
  KeyRange* ranges = shared_ranges();
  KeyRange range = {kNoRow, 0, 0};
  keys.each([&](uint64_t key) {
    range.least = key < range.least ? key : range.least;
    range.most = key > range.most ? key : range.most;
    ++range.count;
  });
  __syncwarp();
  range = join(range);
  if (threadIdx.x % kWarp == 0) ranges[threadIdx.x / kWarp] = range;
  __syncthreads();
  const unsigned lane = threadIdx.x % kWarp;
  range = join(lane < blockDim.x / kWarp ? ranges[lane] : KeyRange{kNoRow, 0, 0});
  __syncthreads();  // the next call writes to them
  return range;
}

// The inclusive prefix sum of x over the lanes.
__device__ inline unsigned sum_up_to(unsigned x) {
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const unsigned below = __shfl_up_sync(0xffffffffu, x, offset);
    if (static_cast<int>(threadIdx.x) >= offset) x += below;
  }
  return x;
}

// By the first warp, from the counts of digits: first finds the block of 32 digits, then the digit.
__device__ inline void find_digit(const unsigned* counts, unsigned k, Digit* found) {
  static_assert(kDigits == kWarp * kWarp);
  const int lane = static_cast<int>(threadIdx.x);
  unsigned sum = 0;
  for (int i = 0; i < kWarp; ++i) sum += counts[count_place(lane * kWarp + i)];
  const unsigned up_to = sum_up_to(sum);
  const int those = __ffs(static_cast<int>(__ballot_sync(0xffffffffu, up_to >= k))) - 1;
  const unsigned before_those = __shfl_sync(0xffffffffu, up_to - sum, those);
  const unsigned count = counts[count_place(those * kWarp + lane)];
  const unsigned up_to_this = before_those + sum_up_to(count);
  if (up_to_this < k || up_to_this - count >= k) return;
  *found = {static_cast<unsigned>(those * kWarp + lane), count, up_to_this - count};
}

// The left-th smallest of the keys that is_one() accepts, at most kFewKeys, or kNoRow if there are fewer; by all
// threads of the block.
template <typename Predicate>
__device__ uint64_t pick_of_few(const BlockKeys& keys, unsigned left, Predicate is_one) {
  uint64_t* few = shared_few();
  unsigned* number = shared_number();
  if (threadIdx.x == 0) *number = 0;
  if (threadIdx.x == 0) few[kFewKeys] = kNoRow;
  __syncthreads();
  keys.each([&](uint64_t key) {
    if (is_one(key)) few[atomicAdd(number, 1u)] = key;
  });
  __syncthreads();
  for (unsigned i = threadIdx.x; i < *number; i += blockDim.x) {
    unsigned smaller = 0;
    for (unsigned j = 0; j < *number; ++j) smaller += few[j] < few[i] ? 1 : 0;
    if (smaller + 1 == left) few[kFewKeys] = few[i];
  }
  __syncthreads();
  const uint64_t key = few[kFewKeys];
  __syncthreads();  // the next call writes to it
  return key;
}

// A key such that exactly k of n keys are <= it; 1 <= k <= n. Keys are distinct, except kNoRow; if that is returned,
// more than k may be. By all threads of the block, which are whole warps. Digits are those of the distance to the least
// key, so that the first digit discriminates well.
__device__ inline uint64_t kth_smallest(const BlockKeys& keys, int64_t k) {
  unsigned* counts = shared_counts();
  Digit* found = shared_digit();
  if (keys.n <= kFewKeys) return pick_of_few(keys, static_cast<unsigned>(k), [](uint64_t) { return true; });
  const KeyRange range = key_range(keys);
  if (range.count < k) return kNoRow;
  if (range.count == k) return range.most;
  auto left = static_cast<unsigned>(k);
  uint64_t prefix = 0;  // the digits of the distance that are decided
  int shift = 64 - __clzll(static_cast<long long>(range.most - range.least));
  for (;;) {
    const int known = shift;  // bits below it are undecided
    shift = known > kDigitBits ? known - kDigitBits : 0;
    const auto is_one = [&](uint64_t key) { return (known == 64 ? 0 : (key - range.least) >> known) == prefix; };
    for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += static_cast<int>(blockDim.x)) {
      counts[count_place(i)] = 0;
    }
    __syncthreads();
    const uint64_t digits = (uint64_t{1} << (known - shift)) - 1;
    keys.each([&](uint64_t key) {
      if (is_one(key)) atomicAdd(&counts[count_place(static_cast<int>((key - range.least) >> shift & digits))], 1u);
    });
    __syncthreads();
    if (threadIdx.x < kWarp) find_digit(counts, left, found);
    __syncthreads();
    const Digit digit = *found;
    __syncthreads();  // the next round, or call, writes to both
    prefix = prefix << (known - shift) | digit.digit;
    left -= digit.before;
    if (digit.count == left || shift == 0) break;  // all of them are wanted: no need to tell them apart
    if (digit.count <= kFewKeys) {
      return pick_of_few(keys, left, [&](uint64_t key) { return (key - range.least) >> shift == prefix; });
    }
  }
  const uint64_t most = ((prefix + 1) << shift) - 1;
  return most < range.most - range.least ? range.least + most : range.most;
}

// Copies the keys <= `last`, except kNoRow, to the front of `to`, in any order, and returns their number. By all
// threads of the block. `to` may be the keys' own memory: keys are read before they are overwritten.
__device__ inline unsigned gather_keys(const BlockKeys& keys, uint64_t last, uint64_t* to) {
  unsigned* count = shared_number();
  if (threadIdx.x == 0) *count = 0;
  for (int64_t first = 0; first < keys.n; first += BlockKeys::kAtOnce * static_cast<int64_t>(blockDim.x)) {
    uint64_t own[BlockKeys::kAtOnce];
    keys.load(first, own);
    __syncthreads();
    for (const uint64_t key : own) {
      if (key <= last && key != kNoRow) to[atomicAdd(count, 1u)] = key;
    }
  }
  __syncthreads();
  const unsigned gathered = *count;
  __syncthreads();  // the next call writes to it
  return gathered;
}

// Calls place(rank, key) for each of at most kRankedKeys distinct keys, by some thread of the block. As many threads as
// are available count the keys before a given key.
inline constexpr int kRankedKeys = 512;

template <typename Place>
__device__ void rank_keys(const BlockKeys& keys, Place place) {
  uint64_t* all = shared_keys();
  unsigned* before = shared_counts();
  const auto n = static_cast<unsigned>(keys.n);
  for (unsigned i = threadIdx.x; i < kRankedKeys; i += blockDim.x) {
    all[i] = i < n ? keys.keys[i] : kNoRow;
    before[i] = 0;
  }
  __syncthreads();
  const unsigned parts = max(1u, blockDim.x / kRankedKeys);
  const unsigned size = (n + parts - 1) / parts;
  for (unsigned task = threadIdx.x; task < parts * kRankedKeys; task += blockDim.x) {
    const unsigned i = task % kRankedKeys;
    if (i >= n) continue;
    const uint64_t key = all[i];
    const unsigned first = task / kRankedKeys * size;
    unsigned count = 0;
#pragma unroll 8
    for (unsigned j = first; j < min(first + size, n); ++j) count += all[j] < key ? 1 : 0;
    atomicAdd(&before[i], count);
  }
  __syncthreads();
  for (unsigned i = threadIdx.x; i < n; i += blockDim.x) place(before[i], all[i]);
}

// Sorts n keys, a power of two, by all threads of the block: if few, by counting the keys before each; otherwise with a
// bitonic network.
__device__ inline void sort_keys(uint64_t* keys, int64_t n) {
  if (n <= kFewKeys && n <= blockDim.x) {
    __syncthreads();
    const uint64_t key = threadIdx.x < n ? keys[threadIdx.x] : kNoRow;
    int place = 0;
    for (int i = 0; i < n; ++i) place += keys[i] < key || (keys[i] == key && i < static_cast<int>(threadIdx.x)) ? 1 : 0;
    __syncthreads();
    if (threadIdx.x < n) keys[place] = key;
    __syncthreads();
    return;
  }
  for (int64_t size = 2; size <= n; size *= 2) {
    for (int64_t step = size / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int64_t pair = threadIdx.x; pair < n / 2; pair += blockDim.x) {
        const int64_t i = 2 * pair - (pair & (step - 1));  // steps are powers of two
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
