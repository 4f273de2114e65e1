#include "engine/sort_best.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "engine/scratch.h"

namespace lsif::engine {
namespace {

constexpr int64_t kLeastByDigits = 64;  // fewer are sorted faster by comparisons
constexpr int kDigitBits = 8;
constexpr int kNumDigits = 32 / kDigitBits;
constexpr int64_t kNumBuckets = 1 << kDigitBits;

// A key that ascends as scores descend; the same for both zeros.
uint32_t key_of(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);
  return bits >> 31 != 0 ? bits : ~bits & 0x7fffffffu;
}

int64_t digit_of(const ScoredItem& item, int digit) {
  return key_of(item.score) >> (digit * kDigitBits) & (kNumBuckets - 1);
}

// Radix sort by score alone, lowest digit first: no branches depend on scores.
void sort_by_digits(ScoredItem* items, int64_t size) {
  std::array<std::array<int64_t, kNumBuckets>, kNumDigits> counts{};
  for (int64_t i = 0; i < size; ++i) {
    for (int digit = 0; digit < kNumDigits; ++digit) ++counts[digit][digit_of(items[i], digit)];
  }
  Scratch scratch;
  ScoredItem* from = items;
  ScoredItem* to = scratch.array<ScoredItem>(size);
  for (int digit = 0; digit < kNumDigits; ++digit) {
    auto& places = counts[digit];
    if (places[digit_of(items[0], digit)] == size) continue;
    int64_t place = 0;
    for (int64_t& count : places) place += std::exchange(count, place);
    for (int64_t i = 0; i < size; ++i) to[places[digit_of(from[i], digit)]++] = from[i];
    std::swap(from, to);
  }
  if (from != items) std::copy_n(from, size, items);
}

// Sorts runs of equal scores by item.
void sort_equal_by_item(ScoredItem* begin, ScoredItem* end) {
  while (begin < end) {
    ScoredItem* last = begin + 1;
    while (last < end && last->score == begin->score) ++last;
    if (last - begin > 1) std::sort(begin, last, [](const auto& a, const auto& b) { return a.item < b.item; });
    begin = last;
  }
}

}  // namespace

ScoredItem* sort_best(ScoredItem* begin, ScoredItem* end, int64_t k) {
  ScoredItem* kept = begin + std::min(end - begin, k);
  // A lambda's call can be inlined; a call through a function pointer is not.
  const auto better = [](const ScoredItem& a, const ScoredItem& b) { return is_better(a, b); };
  const bool is_by_digits = kept - begin >= kLeastByDigits;
  // If there are only a few more than k, sorting all is faster than selecting the k best first.
  ScoredItem* sorted = is_by_digits && end - kept <= k / 4 ? end : kept;
  if (sorted < end) std::nth_element(begin, sorted, end, better);
  if (is_by_digits) {
    sort_by_digits(begin, sorted - begin);
    sort_equal_by_item(begin, sorted);
  } else {
    std::sort(begin, sorted, better);
  }
  return kept;
}

}  // namespace lsif::engine
