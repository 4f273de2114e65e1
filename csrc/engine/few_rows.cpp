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
constexpr int64_t kRowsAtOnce = 16;         // scored for all users of a group, while the next ones are fetched
constexpr int64_t kUsersAtOnce = 16;        // of one filter,
constexpr int64_t kScoresAtOnce = 1 << 18;  // as far as their scores take no more than 4 MiB
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

// Moves what the user may get to the front, of items that ascend, and returns its end.
ScoredItem* without(const Excluded& excluded, int64_t user, ScoredItem* found, ScoredItem* end) {
  const int64_t* left_out = excluded.items(user);
  const int64_t* last_left_out = left_out + excluded.size_of(user);
  return std::remove_if(found, end, [&](const ScoredItem& scored) {
    while (left_out != last_left_out && *left_out < scored.item) ++left_out;
    return left_out != last_left_out && *left_out == scored.item;
  });
}

}  // namespace

FewRows::FewRows(const CatalogView& catalog, const ScoreTopkRequest& request, Scratch& scratch)
    : catalog_(catalog),
      request_(request),
      users_(scratch.ints(request.batch)),
      groups_(scratch.array<Group>(request.batch)),
      others_(scratch.ints(request.batch)) {
  const bool is_cached = catalog.num_items * catalog.dim * 4 <= kCachedBytes;
  const int64_t most = catalog.num_items / (is_cached ? kRowsPerCached : kRowsPerScored);
  const uint64_t* counted = nullptr;
  int64_t count = 0;
  int64_t num_users = 0;
  for (int64_t user = 0; user < request.batch; ++user) {
    const uint64_t* allowed = request.allowed == nullptr ? nullptr : request.allowed[user];
    if (allowed != nullptr && allowed != counted) {
      counted = allowed;
      count = count_bits(allowed, catalog.num_items, most);
    }
    if (allowed == nullptr || count > most) {
      others_[num_others_++] = user;
      continue;
    }
    const int64_t users_at_once = std::clamp<int64_t>(kScoresAtOnce / std::max<int64_t>(count, 1), 1, kUsersAtOnce);
    const Group* last = num_groups_ == 0 ? nullptr : groups_ + num_groups_ - 1;
    if (last == nullptr || last->allowed != allowed || num_users - last->first_user >= users_at_once) {
      groups_[num_groups_++] = {allowed, count, num_users, num_users};
    }
    users_[num_users++] = user;
    groups_[num_groups_ - 1].last_user = num_users;
  }
}

void FewRows::answer(const Interests& interests, const Excluded& excluded, ExactScoreFn* exact_score, int threads,
                     float* scores, int64_t* indices, int64_t* counts) const {
  const int64_t k = request_.k;
  parallel_for(num_groups_, threads, [&](int64_t g) {
    const Group& group = groups_[g];
    Scratch scratch;
    auto* found = scratch.array<ScoredItem>((group.last_user - group.first_user) * group.num_rows);
    score(group, interests, exact_score, scratch.ints(group.num_rows), found);
    for (int64_t place = group.first_user; place < group.last_user; ++place, found += group.num_rows) {
      const int64_t user = users_[place];
      ScoredItem* end = without(excluded, user, found, found + group.num_rows);
      counts[user] = sort_best(found, end, k) - found;
      for (int64_t i = 0; i < counts[user]; ++i) {
        scores[user * k + i] = found[i].score;
        indices[user * k + i] = found[i].item;
      }
    }
  });
  for (int64_t place = 0; num_groups_ > 0 && place < groups_[num_groups_ - 1].last_user; ++place) {
    const int64_t user = users_[place];
    for (int64_t i = user * k; i < user * k + counts[user]; ++i) check_score(scores[i], user, indices[i]);
  }
}

void FewRows::score(const Group& group, const Interests& interests, ExactScoreFn* exact_score, int64_t* rows,
                    ScoredItem* found) const {
  int64_t num_rows = 0;
  for_words(group.allowed, catalog_.num_items, [&](int64_t w, uint64_t word) {
    for (; word != 0; word &= word - 1) rows[num_rows++] = 64 * w + std::countr_zero(word);
    return true;
  });
  for (int64_t begin = 0; begin < num_rows; begin += kRowsAtOnce) {
    const int64_t end = std::min(num_rows, begin + kRowsAtOnce);
    for (int64_t i = end; i < std::min(num_rows, end + kRowsAtOnce); ++i) prefetch(catalog_, rows[i]);
    for (int64_t place = group.first_user; place < group.last_user; ++place) {
      ScoredItem* of_user = found + (place - group.first_user) * num_rows;
      for (int64_t i = begin; i < end; ++i) {
        of_user[i] = {static_cast<float>(interests.score(catalog_, users_[place], rows[i], exact_score)), rows[i]};
      }
    }
  }
}

}  // namespace lsif::engine
