#include "engine/score_topk.h"

#include <algorithm>
#include <limits>
#include <span>

#include "engine/excluded.h"
#include "engine/few_rows.h"
#include "engine/interests.h"
#include "engine/ragged.h"
#include "engine/score_checks.h"
#include "engine/scratch.h"
#include "engine/sort_best.h"
#include "engine/thread_pool.h"

namespace lsif::engine {
namespace {

constexpr int64_t kUsersPerTask = 64;       // who share one pass over the codes
constexpr int64_t kUsersTogether = 8;       // from this many on, each row costs less per user, if all rows need scoring
constexpr int64_t kMinRowsPerTask = 16384;  // and at least kRangeRowsPerResult rows for each result kept
constexpr int64_t kRangeRowsPerResult = 16;
// Codes read times vectors. With less, waking a thread costs more than it gains.
constexpr int64_t kMinCodesPerThread = 1 << 20;
constexpr int64_t kRowsPerScanned = 16;  // one of about this many is scanned, if close rows are adjacent

// Tasks are groups of users times ranges of rows.
struct Split {
  int threads;
  int64_t num_groups;
  int64_t users_per_group;
  int64_t num_ranges;
  int64_t rows_per_range;  // a multiple of kRangeRows
};

Split split_work(const CatalogView& catalog, int64_t batch, int64_t num_vectors, int64_t k, int threads) {
  double work = static_cast<double>(num_vectors) * static_cast<double>(catalog.num_items) *
                static_cast<double>(group_bytes(catalog.dim) / kGroupRows);
  if (catalog.codes.order != nullptr && !catalog.codes.by_length) work /= kRowsPerScanned;
  const double useful = std::max(1.0, work / static_cast<double>(kMinCodesPerThread));
  Split split{};
  split.threads = static_cast<int>(std::min(static_cast<double>(threads), useful));
  const int64_t wanted = split.threads == 1 ? 1 : split.threads * kTasksPerThread;
  const int64_t least_users =
      catalog.codes.order == nullptr ? std::min(kUsersTogether, divide_up(batch, split.threads)) : 1;
  split.users_per_group = std::min(kUsersPerTask, std::max(least_users, divide_up(batch, wanted)));
  split.num_groups = divide_up(batch, split.users_per_group);
  const int64_t most_ranges = catalog.num_items / std::max(kMinRowsPerTask, k * kRangeRowsPerResult);
  const int64_t least_ranges = divide_up(catalog.num_items, kMaxScanRows);
  const int64_t num_ranges =
      std::clamp<int64_t>(divide_up(wanted, split.num_groups), least_ranges, std::max(least_ranges, most_ranges));
  split.rows_per_range = divide_up(divide_up(catalog.num_items, num_ranges), kRangeRows) * kRangeRows;
  split.num_ranges = divide_up(catalog.num_items, split.rows_per_range);
  return split;
}

// Finds the best rows of each user in each range, then merges them. Users are identified by their index in `users`.
class Search {
 public:
  Search(const CatalogView& catalog, const ScoreTopkRequest& request, std::span<const int64_t> users,
         const Interests& interests, const Excluded& excluded, const Split& split, const cpu::KernelTable& kernels,
         Scratch& scratch)
      : catalog_(catalog),
        users_(users),
        batch_(static_cast<int64_t>(users.size())),
        allowed_(request.allowed),
        error_share_(request.error_share),
        k_(std::min(request.k, catalog.num_items)),
        interests_(interests),
        excluded_(excluded),
        split_(split),
        kernels_(kernels),
        best_(scratch.array<ScoredItem>(split.num_ranges * batch_ * k_)),
        num_best_(scratch.ints(split.num_ranges * batch_)),
        known_scores_(scratch.floats(batch_)) {
    std::fill_n(known_scores_, batch_, -std::numeric_limits<float>::infinity());
  }

  void scan() {
    parallel_for(split_.num_groups * split_.num_ranges, split_.threads,
                 [&](int64_t task) { scan(task % split_.num_groups, task / split_.num_groups); });
  }

  // The user's result, best first. Call it only once: the results of the ranges are merged in place.
  std::span<const ScoredItem> best(int64_t user) {
    ScoredItem* all = best_of(user, 0);
    ScoredItem* end = all + num_best_[user];
    for (int64_t range = 1; range < split_.num_ranges; ++range) {
      const ScoredItem* found = best_of(user, range);
      const int64_t count = num_best_[range * batch_ + user];
      end = found == end ? end + count : std::copy_n(found, count, end);
    }
    return {all, sort_best(all, end, k_)};
  }

 private:
  ScoredItem* best_of(int64_t user, int64_t range) { return best_ + (user * split_.num_ranges + range) * k_; }

  void scan(int64_t group, int64_t range) {
    const int64_t first_user = group * split_.users_per_group;
    const int64_t last_user = std::min(batch_, first_user + split_.users_per_group);
    Scratch scratch;
    const int64_t count = last_user - first_user;
    auto* queries = scratch.array<TopkQuery>(count);
    int64_t num_vectors = 0;
    for (int64_t place = first_user; place < last_user; ++place) {
      const int64_t user = users_[static_cast<size_t>(place)];
      TopkQuery query = interests_.topk_query(user);
      query.exclude = excluded_.items(user);
      query.num_exclude = excluded_.size_of(user);
      query.allowed = allowed_ == nullptr ? nullptr : allowed_[user];
      query.best = best_of(place, range);
      query.k = k_;
      query.error_share = error_share_;
      query.known_score = split_.num_ranges > 1 ? known_scores_ + place : nullptr;
      num_vectors += query.num_interests;
      queries[place - first_user] = query;
    }
    const int64_t first_item = range * split_.rows_per_range;
    const int64_t last_item = std::min(catalog_.num_items, first_item + split_.rows_per_range);
    kernels_.score_topk(catalog_, first_item, last_item, queries, count,
                        scratch.bytes(score_topk_scratch_size(catalog_, count, num_vectors, k_)));
    for (int64_t place = first_user; place < last_user; ++place) {
      num_best_[range * batch_ + place] = queries[place - first_user].num_best;
    }
  }

  const CatalogView& catalog_;
  std::span<const int64_t> users_;
  int64_t batch_;
  const uint64_t* const* allowed_;
  float error_share_;
  int64_t k_;
  const Interests& interests_;
  const Excluded& excluded_;
  Split split_;
  const cpu::KernelTable& kernels_;
  ScoredItem* best_;     // [batch, num_ranges, k]
  int64_t* num_best_;    // [num_ranges, batch]
  float* known_scores_;  // [batch], shared by the scans of all ranges
};

}  // namespace

void score_topk(const CatalogView& catalog, const ScoreTopkRequest& request, float* scores, int64_t* indices,
                int64_t* counts, const cpu::KernelTable& kernels) {
  check_k(request.k);
  const int threads = check_threads(request.threads);
  check_queries(catalog, request);
  Scratch scratch;
  const RaggedRows unwanted = {request.exclude_items, request.exclude_offsets};
  const Excluded excluded({&unwanted, 1}, request.batch, catalog.num_items, scratch);
  std::fill_n(scores, request.batch * request.k, 0.0f);
  std::fill_n(indices, request.batch * request.k, -1);
  std::fill_n(counts, request.batch, 0);
  if (request.batch == 0 || catalog.num_items == 0) return;

  Interests interests(request, catalog.dim, scratch);
  const std::span<const int64_t> users =
      answer_few_rows(catalog, request, interests, excluded, kernels, threads, scores, indices, counts, scratch);
  if (users.empty()) return;
  interests.code(scratch);
  const auto batch = static_cast<int64_t>(users.size());
  const int64_t num_vectors = divide_up(interests.size() * batch, request.batch);
  const Split split = split_work(catalog, batch, num_vectors, std::min(request.k, catalog.num_items), threads);
  Search search(catalog, request, users, interests, excluded, split, kernels, scratch);
  search.scan();
  for (int64_t place = 0; place < batch; ++place) {
    const int64_t user = users[static_cast<size_t>(place)];
    for (const ScoredItem& found : search.best(place)) {
      check_score(found.score, user, found.item);
      const int64_t result = user * request.k + counts[user]++;
      scores[result] = found.score;
      indices[result] = found.item;
    }
  }
}

void score_items(const CatalogView& catalog, const ScoreQueries& queries, const int64_t* items,
                 const int64_t* item_offsets, float* scores, int threads, const cpu::KernelTable& kernels) {
  threads = check_threads(threads);
  check_queries(catalog, queries);
  check_offsets("item_offsets", item_offsets, queries.batch, item_offsets[queries.batch]);
  check_score_rows("items", items, item_offsets, queries.batch, catalog.num_items);
  Scratch scratch;
  const Interests interests(queries, catalog.dim, scratch);
  parallel_for(queries.batch, threads, [&](int64_t user) {
    for (int64_t i = item_offsets[user]; i < item_offsets[user + 1]; ++i) {
      scores[i] = static_cast<float>(interests.score(catalog, user, items[i], kernels.exact_score));
    }
  });
  for (int64_t user = 0; user < queries.batch; ++user) {
    for (int64_t i = item_offsets[user]; i < item_offsets[user + 1]; ++i) check_score(scores[i], user, items[i]);
  }
}

}  // namespace lsif::engine
