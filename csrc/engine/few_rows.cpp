#include "engine/few_rows.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <numeric>

#include "engine/score_checks.h"
#include "engine/sort_best.h"
#include "engine/thread_pool.h"

namespace lsif::engine {
namespace {

// Scoring one row costs at most as much as scanning this many under a filter, if vectors come from memory and if they
// are cached. (A filter removes the best scores and so keeps the threshold low.) A scan's fixed costs equal those of
// about kAlwaysFew rows (bench/measured.md, "Selective filters").
constexpr int64_t kRowsPerScored = 48;
constexpr int64_t kRowsPerCached = 32;
constexpr int64_t kAlwaysFew = 1024;
constexpr int64_t kCachedBytes = 1 << 25;
// Users who score rows together pay less for each. For this many, without a filter, a small catalogue counts as few
// rows; so does one where a scan would score several rows exactly per result (bench/measured.md, "Small catalogues and
// large k").
constexpr int64_t kLeastBatch = 8;
constexpr int64_t kFilterRowsOfBatch = 2;  // times as many rows as for a lone user
constexpr int64_t kMostOfBatch = 4096;
// All rows also count as few if there are at most this many of them per result wanted.
struct Few {
  int64_t least_batch;
  int64_t rows_per_result;
  int64_t clustered_rows_per_result;  // if close rows are adjacent, so that a scan skips more
};
constexpr Few kFew[] = {{1, 40, 20}, {4, 50, 45}, {kLeastBatch, 100, 100}, {32, 150, 150}};
constexpr int64_t kSmallCatalog = 3072;
constexpr int64_t kSmallRowsPerResult = 100;
constexpr int64_t kMostRows = 1 << 16;
constexpr int64_t kScoresAtOnce = 1 << 20;  // scores held by users who score rows together: 4 MiB
constexpr int64_t kScan = -1;               // stored instead of a user's number of results
constexpr int64_t kWordsAtOnce = 8;
constexpr int64_t kSampledWords = 256;

// Word w of a bitmap of num_items bits, with the bits past the end cleared.
uint64_t word_of(const uint64_t* bitmap, int64_t num_items, int64_t w) {
  const int64_t left = num_items - 64 * w;
  return left >= 64 ? bitmap[w] : bitmap[w] & ((uint64_t{1} << left) - 1);
}

// Estimates whether far more than `most` bits are set: counting them all takes a noticeable part of a fast search.
bool has_many_bits(const uint64_t* bitmap, int64_t num_items, int64_t most) {
  const int64_t num_words = num_items / 64;
  if (num_words < 4 * kSampledWords) return false;
  int64_t count = 0;
  for (int64_t i = 0; i < kSampledWords; ++i) count += std::popcount(bitmap[i * num_words / kSampledWords]);
  return count * num_words > 2 * most * kSampledWords;
}

// The most rows that count as few under a filter shared by this many users. With several interests all are scored
// exactly, which takes longer than a scan's bounds.
int64_t most_of(const CatalogView& catalog, bool has_weights, int64_t num_users) {
  const bool is_cached = catalog.num_items * catalog.dim * 4 <= kCachedBytes;
  const int64_t most = catalog.num_items / (is_cached ? kRowsPerCached : kRowsPerScored);
  if (has_weights) return most / 2;
  return std::max(kAlwaysFew, most) * (num_users >= kLeastBatch ? kFilterRowsOfBatch : 1);
}

// Whether all rows of the catalogue count as few.
bool has_few_rows(const CatalogView& catalog, const ScoreTopkRequest& request) {
  const int64_t num_items = catalog.num_items;
  // An approximate search is not answered exactly here: callers measure what it misses (lsif_sdk/calibration.py).
  if (request.weights != nullptr || request.error_share < 1 || num_items > kMostRows) return false;
  if (request.batch >= kLeastBatch && num_items <= kMostOfBatch) return true;
  const Few* few = std::end(kFew) - 1;
  while (request.batch < few->least_batch) --few;
  const bool is_clustered = catalog.codes.order != nullptr && !catalog.codes.by_length;
  int64_t rows_per_result = is_clustered ? few->clustered_rows_per_result : few->rows_per_result;
  if (num_items <= kSmallCatalog) rows_per_result = std::max(rows_per_result, kSmallRowsPerResult);
  return num_items <= std::min(request.k, num_items) * rows_per_result;
}

// Writes the indices of set bits, ascending, until there are more than `most`, and returns their number. rows: room for
// most + 64.
int64_t collect_rows(const uint64_t* bitmap, int64_t num_items, int64_t most, int64_t* rows) {
  int64_t count = 0;
  const auto collect = [&](int64_t w) {
    for (uint64_t word = word_of(bitmap, num_items, w); word != 0; word &= word - 1) {
      rows[count++] = 64 * w + std::countr_zero(word);
    }
    return count <= most;
  };
  int64_t w = 0;
  for (; 64 * (w + kWordsAtOnce) <= num_items; w += kWordsAtOnce) {
    uint64_t any = 0;
    for (int64_t i = 0; i < kWordsAtOnce; ++i) any |= bitmap[w + i];
    if (any == 0) continue;
    for (int64_t i = 0; i < kWordsAtOnce; ++i) {
      if (!collect(w + i)) return count;
    }
  }
  for (; 64 * w < num_items && collect(w); ++w) {
  }
  return count;
}

// Consecutive users with the same filter.
struct Group {
  const uint64_t* allowed;  // null: all rows are
  int64_t first_user;
  int64_t last_user;
};

class FewRows {
 public:
  FewRows(const CatalogView& catalog, const ScoreTopkRequest& request, const Interests& interests,
          const Excluded& excluded, const cpu::KernelTable& kernels)
      : catalog_(catalog), request_(request), interests_(interests), excluded_(excluded), kernels_(kernels) {}

  // Writes the results of a group that has few rows; for other groups the counts stay kScan.
  void answer(const Group& group, float* scores, int64_t* indices, int64_t* counts) const {
    Scratch scratch;
    int64_t num_rows = catalog_.num_items;
    int64_t* rows = nullptr;
    if (group.allowed == nullptr) {
      rows = scratch.ints(num_rows);
      std::iota(rows, rows + num_rows, 0);
    } else {
      const int64_t most = most_of(catalog_, request_.weights != nullptr, group.last_user - group.first_user);
      if (has_many_bits(group.allowed, num_rows, most)) return;
      rows = scratch.ints(most + 64);
      num_rows = collect_rows(group.allowed, num_rows, most, rows);
      if (num_rows > most) return;
    }
    const int64_t at_once = std::clamp<int64_t>(kScoresAtOnce / std::max<int64_t>(num_rows, 1), 1, kRowQueries);
    for (int64_t user = group.first_user; user < group.last_user; user += at_once) {
      answer(user, std::min(group.last_user, user + at_once), {rows, static_cast<size_t>(num_rows)}, scores, indices,
             counts);
    }
  }

 private:
  void answer(int64_t first_user, int64_t last_user, std::span<const int64_t> rows, float* scores, int64_t* indices,
              int64_t* counts) const {
    Scratch scratch;
    const auto num_rows = static_cast<int64_t>(rows.size());
    const int64_t num_users = last_user - first_user;
    const int64_t k = std::min(request_.k, num_rows);
    const int64_t room = topk_rows_room(num_rows, k);
    auto* queries = scratch.array<TopkQuery>(num_users);
    for (int64_t user = first_user; user < last_user; ++user) {
      TopkQuery& query = queries[user - first_user];
      query = interests_.exact_query(user);
      query.exclude = excluded_.items(user);
      query.num_exclude = excluded_.size_of(user);
      query.best = scratch.array<ScoredItem>(room);
      query.k = k;
    }
    kernels_.topk_rows(catalog_, rows.data(), num_rows, queries, num_users,
                       scratch.bytes(topk_rows_scratch_size(num_users, num_rows, catalog_.dim)));
    for (int64_t user = first_user; user < last_user; ++user) {
      const TopkQuery& query = queries[user - first_user];
      counts[user] = sort_best(query.best, query.best + query.num_best, k) - query.best;
      for (int64_t i = 0; i < counts[user]; ++i) {
        scores[user * request_.k + i] = query.best[i].score;
        indices[user * request_.k + i] = query.best[i].item;
      }
    }
  }

  const CatalogView& catalog_;
  const ScoreTopkRequest& request_;
  const Interests& interests_;
  const Excluded& excluded_;
  const cpu::KernelTable& kernels_;
};

}  // namespace

std::span<const int64_t> answer_few_rows(const CatalogView& catalog, const ScoreTopkRequest& request,
                                         const Interests& interests, const Excluded& excluded,
                                         const cpu::KernelTable& kernels, int threads, float* scores, int64_t* indices,
                                         int64_t* counts, Scratch& scratch) {
  const FewRows few(catalog, request, interests, excluded, kernels);
  const bool all_are_few = has_few_rows(catalog, request);
  // As many as gain from scoring rows together, but with work for all threads.
  const int64_t most_users = std::clamp(divide_up(request.batch, kTasksPerThread * threads), kLeastBatch, kRowQueries);
  auto* groups = scratch.array<Group>(request.batch);
  int64_t num_groups = 0;
  for (int64_t user = 0; user < request.batch; ++user) {
    counts[user] = kScan;
    const uint64_t* allowed = request.allowed == nullptr ? nullptr : request.allowed[user];
    if ((allowed == nullptr && !all_are_few) || kernels.topk_rows == nullptr) continue;
    Group* last = num_groups == 0 ? nullptr : groups + num_groups - 1;
    if (last != nullptr && last->allowed == allowed && last->last_user == user &&
        user - last->first_user < most_users) {
      last->last_user = user + 1;
    } else {
      groups[num_groups++] = {allowed, user, user + 1};
    }
  }
  parallel_for(num_groups, threads, [&](int64_t g) { few.answer(groups[g], scores, indices, counts); });
  int64_t* others = scratch.ints(request.batch);
  int64_t num_others = 0;
  for (int64_t user = 0; user < request.batch; ++user) {
    if (counts[user] == kScan) {
      counts[user] = 0;
      others[num_others++] = user;
      continue;
    }
    for (int64_t i = user * request.k; i < user * request.k + counts[user]; ++i) {
      check_score(scores[i], user, indices[i]);
    }
  }
  return {others, static_cast<size_t>(num_others)};
}

}  // namespace lsif::engine
