#include "engine/few_rows.h"

#include <algorithm>
#include <bit>

#include "engine/score_checks.h"
#include "engine/thread_pool.h"

namespace lsif::engine {
namespace {

// A row scored costs as much as so many scanned under a filter, which keeps the best scores, and so the threshold, low:
// where vectors come from memory, and where caches have them (bench/README.md, "Selective filters").
constexpr int64_t kRowsPerScored = 96;
constexpr int64_t kRowsPerCached = 48;
constexpr int64_t kCachedBytes = 1 << 25;
constexpr int64_t kRowsAhead = 16;  // that are fetched while one is scored
constexpr int64_t kWordsAtOnce = 8;
constexpr int64_t kSampledWords = 256;

// Word w of a bitmap of num_items bits, without those past the end.
uint64_t word_of(const uint64_t* bitmap, int64_t num_items, int64_t w) {
  const int64_t left = num_items - 64 * w;
  return left >= 64 ? bitmap[w] : bitmap[w] & ((uint64_t{1} << left) - 1);
}

// Calls fn(w, word) for each word that is not 0 until it returns false.
template <typename Fn>
void for_words(const uint64_t* bitmap, int64_t num_items, const Fn& fn) {
  const int64_t num_words = divide_up(num_items, 64);
  for (int64_t begin = 0; begin < num_words; begin += kWordsAtOnce) {
    const int64_t end = std::min(num_words, begin + kWordsAtOnce);
    uint64_t any = 0;
    for (int64_t w = begin; w < end; ++w) any |= bitmap[w];
    if (any == 0) continue;
    for (int64_t w = begin; w < end; ++w) {
      const uint64_t word = word_of(bitmap, num_items, w);
      if (word != 0 && !fn(w, word)) return;
    }
  }
}

// Whether far more bits seem to be set: counting all of them takes a part of the time of a fast search.
bool has_many_bits(const uint64_t* bitmap, int64_t num_items, int64_t most) {
  const int64_t num_words = num_items / 64;
  if (num_words < 4 * kSampledWords) return false;
  int64_t count = 0;
  for (int64_t i = 0; i < kSampledWords; ++i) count += std::popcount(bitmap[i * num_words / kSampledWords]);
  return count * num_words > 2 * most * kSampledWords;
}

// How many bits are set, or, where they are more than `most`, some number above it.
int64_t count_bits(const uint64_t* bitmap, int64_t num_items, int64_t most) {
  if (has_many_bits(bitmap, num_items, most)) return most + 1;
  int64_t count = 0;
  for_words(bitmap, num_items, [&](int64_t, uint64_t word) {
    count += std::popcount(word);
    return count <= most;
  });
  return count;
}

void prefetch(const CatalogView& catalog, int64_t row) {
  const auto* bytes = reinterpret_cast<const char*>(catalog.vectors + row * catalog.dim);
  for (int64_t i = 0; i < catalog.dim * 4; i += kLineBytes) __builtin_prefetch(bytes + i);
  if (catalog.bias != nullptr) __builtin_prefetch(catalog.bias + row);
}

}  // namespace

FewRows::FewRows(const CatalogView& catalog, const ScoreTopkRequest& request, Scratch& scratch)
    : catalog_(catalog),
      request_(request),
      users_(scratch.ints(request.batch)),
      num_rows_(scratch.ints(request.batch)),
      others_(scratch.ints(request.batch)) {
  const bool is_cached = catalog.num_items * catalog.dim * 4 <= kCachedBytes;
  const int64_t most = catalog.num_items / (is_cached ? kRowsPerCached : kRowsPerScored);
  const uint64_t* counted = nullptr;
  int64_t count = 0;
  for (int64_t user = 0; user < request.batch; ++user) {
    const uint64_t* allowed = request.allowed == nullptr ? nullptr : request.allowed[user];
    if (allowed != nullptr && allowed != counted) {
      counted = allowed;
      count = count_bits(allowed, catalog.num_items, most);
    }
    if (allowed == nullptr || count > most) {
      others_[num_others_++] = user;
    } else {
      users_[num_users_] = user;
      num_rows_[num_users_++] = count;
    }
  }
}

void FewRows::answer(const Interests& interests, const Excluded& excluded, int threads, float* scores, int64_t* indices,
                     int64_t* counts) const {
  const int64_t k = request_.k;
  parallel_for(num_users_, threads, [&](int64_t place) {
    const int64_t user = users_[place];
    counts[user] = answer(place, interests, excluded, scores + user * k, indices + user * k);
  });
  for (int64_t place = 0; place < num_users_; ++place) {
    const int64_t user = users_[place];
    for (int64_t i = user * k; i < user * k + counts[user]; ++i) check_score(scores[i], user, indices[i]);
  }
}

int64_t FewRows::answer(int64_t place, const Interests& interests, const Excluded& excluded, float* scores,
                        int64_t* indices) const {
  const int64_t user = users_[place];
  Scratch scratch;
  auto* rows = scratch.array<ScoredItem>(num_rows_[place]);
  int64_t num_rows = 0;
  const int64_t* left_out = excluded.items(user);
  const int64_t* last_left_out = left_out + excluded.size_of(user);
  for_words(request_.allowed[user], catalog_.num_items, [&](int64_t w, uint64_t word) {
    for (; word != 0; word &= word - 1) {
      const int64_t row = 64 * w + std::countr_zero(word);
      while (left_out != last_left_out && *left_out < row) ++left_out;
      if (left_out == last_left_out || *left_out != row) rows[num_rows++].item = row;
    }
    return true;
  });
  for (int64_t i = 0; i < num_rows; ++i) {
    if (i + kRowsAhead < num_rows) prefetch(catalog_, rows[i + kRowsAhead].item);
    rows[i].score = static_cast<float>(interests.score(catalog_, user, rows[i].item));
  }
  const int64_t count = std::min(request_.k, num_rows);
  std::nth_element(rows, rows + count, rows + num_rows, is_better);
  std::sort(rows, rows + count, is_better);
  for (int64_t i = 0; i < count; ++i) {
    scores[i] = rows[i].score;
    indices[i] = rows[i].item;
  }
  return count;
}

}  // namespace lsif::engine
