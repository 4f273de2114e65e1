#include "engine/score_topk.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/catalog.h"
#include "engine/thread_pool.h"

namespace lsif::engine {
namespace {

constexpr int64_t kUsersPerTask = 64;       // they share one pass over the codes
constexpr int64_t kMinRowsPerTask = 16384;  // and at least kRowsPerResult rows for each result kept
constexpr int64_t kRowsPerResult = 16;
constexpr int64_t kTasksPerThread = 2;
constexpr int64_t kMinCodesPerThread =
    1 << 20;  // codes read times vectors: below, waking a thread costs more than it gains

[[noreturn]] void refuse(const std::string& argument, const std::string& expected, const std::string& got) {
  throw std::invalid_argument(argument + ": expected " + expected + ", got " + got);
}

void check_between(const char* argument, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return;
  const bool open = high == std::numeric_limits<int64_t>::max();
  refuse(argument, "at least " + std::to_string(low) + (open ? "" : " and at most " + std::to_string(high)),
         std::to_string(value));
}

constexpr int64_t kAny = std::numeric_limits<int64_t>::max();

void check_queries(const CatalogView& catalog, const ScoreQueries& request) {
  check_between("catalog.dim", catalog.dim, 1, kMaxScoreDim);
  check_between("catalog.num_items", catalog.num_items, 0, kAny);
  check_between("batch", request.batch, 0, kAny);
  check_between("num_interests", request.num_interests, 1, kMaxScoreInterests);
  const int64_t bad = check_finite(request.queries, request.batch * request.num_interests, catalog.dim, 1);
  if (bad >= 0) {
    refuse("queries", "finite numbers",
           "NaN or infinity in user " + std::to_string(bad / request.num_interests) + ", interest " +
               std::to_string(bad % request.num_interests));
  }
  if (request.weights == nullptr) {
    if (request.num_interests != 1) {
      refuse("weights", "one per interest", "none for " + std::to_string(request.num_interests) + " interests");
    }
    return;
  }
  if (!(request.temperature >= static_cast<double>(std::numeric_limits<float>::min()) &&
        request.temperature <= static_cast<double>(std::numeric_limits<float>::max()))) {
    refuse("temperature", "a positive normal float32 number", std::to_string(request.temperature));
  }
  for (int64_t user = 0; user < request.batch; ++user) {
    const float* weights = request.weights + user * request.num_interests;
    bool some_positive = false;
    for (int64_t j = 0; j < request.num_interests; ++j) {
      if (!(weights[j] >= 0 && weights[j] <= std::numeric_limits<float>::max())) {
        refuse("weights", "finite numbers >= 0",
               std::to_string(weights[j]) + " in user " + std::to_string(user) + ", interest " + std::to_string(j));
      }
      some_positive |= weights[j] > 0;
    }
    if (!some_positive) refuse("weights", "a positive weight for each user", "none in user " + std::to_string(user));
  }
}

// The interests that take part, user after user.
class Interests {
 public:
  Interests(const ScoreQueries& request, int64_t dim)
      : dim_(dim), has_weights_(request.weights != nullptr), temperature_(request.temperature), first_{0} {
    for (int64_t user = 0; user < request.batch; ++user) {
      for (int64_t j = user * request.num_interests; j < (user + 1) * request.num_interests; ++j) {
        if (has_weights_) {
          if (request.weights[j] == 0) continue;
          weights_.push_back(request.weights[j]);
        }
        vectors_.insert(vectors_.end(), request.queries + j * dim, request.queries + (j + 1) * dim);
      }
      first_.push_back(static_cast<int64_t>(vectors_.size()) / dim);
    }
  }

  int64_t size() const { return first_.back(); }
  int64_t size_of(int64_t user) const { return first_[user + 1] - first_[user]; }
  const float* vectors(int64_t user) const { return vectors_.data() + first_[user] * dim_; }
  const float* weights(int64_t user) const { return has_weights_ ? weights_.data() + first_[user] : nullptr; }

  double score(const CatalogView& catalog, int64_t user, int64_t item) const {
    return exact_score(vectors(user), weights(user), size_of(user), temperature_, catalog.vectors + item * dim_,
                       catalog.bias == nullptr ? 0.0f : catalog.bias[item], dim_);
  }

  // What the kernel's bounds need.
  void code() {
    const int64_t count = size();
    const int64_t stride = code_stride(dim_);
    codes_.resize(count * stride);
    scales_.resize(count);
    errors_.resize(count);
    norms_.resize(count);
    quantize_rows(vectors_.data(), count, dim_, codes_.data(), scales_.data(), errors_.data(), norms_.data(), 1);
    for (int64_t j = 0; j < count; ++j) {
      int32_t sum = 0;
      for (int64_t i = 0; i < stride; ++i) sum += codes_[j * stride + i];
      code_sums_.push_back(sum);
      double squared_norm = 0;
      for (int64_t i = 0; i < dim_; ++i) squared_norm += std::pow(static_cast<double>(vectors_[j * dim_ + i]), 2);
      norms_[j] = round_up(std::sqrt(squared_norm) * (1 + 0x1p-30));
    }
    for (const float weight : weights_) {
      log_weights_.push_back(temperature_ * std::log(static_cast<double>(weight)));
    }
  }

  TopkQuery topk_query(int64_t user) const {
    const int64_t first = first_[user];
    TopkQuery query{};
    query.vectors = vectors(user);
    query.codes = codes_.data() + first * code_stride(dim_);
    query.code_sums = code_sums_.data() + first;
    query.scales = scales_.data() + first;
    query.errors = errors_.data() + first;
    query.norms = norms_.data() + first;
    query.num_interests = size_of(user);
    query.temperature = temperature_;
    if (has_weights_) {
      query.weights = weights(user);
      query.log_weights = log_weights_.data() + first;
      double total = 0;
      for (int64_t j = 0; j < query.num_interests; ++j) total += static_cast<double>(query.weights[j]);
      query.log_total = temperature_ * std::log(total);
    }
    return query;
  }

 private:
  int64_t dim_;
  bool has_weights_;
  double temperature_;
  std::vector<int64_t> first_;  // [batch + 1]
  std::vector<float> vectors_;
  std::vector<float> weights_;
  std::vector<int8_t> codes_;
  std::vector<int32_t> code_sums_;
  std::vector<float> scales_;
  std::vector<float> errors_;
  std::vector<float> norms_;
  std::vector<double> log_weights_;
};

void check_offsets(const char* argument, const int64_t* offsets, int64_t batch) {
  if (offsets[0] != 0) refuse(argument, "the first to be 0", std::to_string(offsets[0]));
  for (int64_t user = 0; user < batch; ++user) {
    if (offsets[user + 1] < offsets[user]) {
      refuse(argument, "numbers that do not decrease",
             std::to_string(offsets[user + 1]) + " after " + std::to_string(offsets[user]));
    }
  }
}

void check_items(const char* argument, const int64_t* items, const int64_t* offsets, int64_t batch, int64_t num_items) {
  for (int64_t user = 0; user < batch; ++user) {
    for (int64_t i = offsets[user]; i < offsets[user + 1]; ++i) {
      if (items[i] >= 0 && items[i] < num_items) continue;
      refuse(argument, "rows in [0, " + std::to_string(num_items) + ")",
             std::to_string(items[i]) + " for user " + std::to_string(user));
    }
  }
}

// The excluded rows of each user, strictly increasing.
class Excluded {
 public:
  Excluded(const ScoreTopkRequest& request, int64_t num_items) : first_(request.batch + 1) {
    if (request.exclude_offsets == nullptr) {
      if (request.exclude_items != nullptr) refuse("exclude_offsets", "batch + 1 offsets into exclude_items", "none");
      return;
    }
    const int64_t* offsets = request.exclude_offsets;
    check_offsets("exclude_offsets", offsets, request.batch);
    check_items("exclude_items", request.exclude_items, offsets, request.batch, num_items);
    for (int64_t user = 0; user < request.batch; ++user) {
      const auto begin = static_cast<std::ptrdiff_t>(items_.size());
      items_.insert(items_.end(), request.exclude_items + offsets[user], request.exclude_items + offsets[user + 1]);
      std::sort(items_.begin() + begin, items_.end());
      items_.erase(std::unique(items_.begin() + begin, items_.end()), items_.end());
      first_[user + 1] = static_cast<int64_t>(items_.size());
    }
  }

  const int64_t* items(int64_t user) const { return items_.data() + first_[user]; }
  int64_t size_of(int64_t user) const { return first_[user + 1] - first_[user]; }

 private:
  std::vector<int64_t> first_;
  std::vector<int64_t> items_;
};

// Tasks are groups of users times ranges of rows.
struct Split {
  int threads;
  int64_t num_groups;
  int64_t users_per_group;
  int64_t num_ranges;
  int64_t rows_per_range;  // a multiple of kScanBlock
};

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

Split split_work(const CatalogView& catalog, int64_t batch, int64_t num_vectors, int64_t k, int threads) {
  const double work = static_cast<double>(num_vectors) * static_cast<double>(catalog.num_items) *
                      static_cast<double>(code_stride(catalog.dim));
  const double useful = std::max(1.0, work / static_cast<double>(kMinCodesPerThread));
  Split split{};
  split.threads = static_cast<int>(std::min(static_cast<double>(threads), useful));
  const int64_t wanted = split.threads == 1 ? 1 : split.threads * kTasksPerThread;
  split.users_per_group = std::min(kUsersPerTask, std::max<int64_t>(1, divide_up(batch, wanted)));
  split.num_groups = divide_up(batch, split.users_per_group);
  const int64_t most_ranges = catalog.num_items / std::max(kMinRowsPerTask, k * kRowsPerResult);
  const int64_t num_ranges =
      std::clamp<int64_t>(divide_up(wanted, split.num_groups), 1, std::max<int64_t>(1, most_ranges));
  split.rows_per_range = divide_up(divide_up(catalog.num_items, num_ranges), kScanBlock) * kScanBlock;
  split.num_ranges = divide_up(catalog.num_items, split.rows_per_range);
  return split;
}

// 64-byte aligned scratch of one task.
class Scratch {
 public:
  Scratch() : data_(::operator new(score_topk_scratch_size(), kAlignment)) {}
  ~Scratch() { ::operator delete(data_, kAlignment); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* get() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  void* data_;
};

bool is_better(const ScoredItem& a, const ScoredItem& b) {
  return a.score > b.score || (a.score == b.score && a.item < b.item);
}

// The best rows of each user in each range, then of each user.
class Search {
 public:
  Search(const CatalogView& catalog, const ScoreTopkRequest& request, const Interests& interests,
         const Excluded& excluded, const Split& split, const cpu::KernelTable& kernels)
      : catalog_(catalog),
        batch_(request.batch),
        k_(std::min(request.k, catalog.num_items)),
        interests_(interests),
        excluded_(excluded),
        split_(split),
        kernels_(kernels),
        best_(split.num_ranges * request.batch * k_),
        num_best_(split.num_ranges * request.batch) {}

  void scan() {
    parallel_for(split_.num_groups * split_.num_ranges, split_.threads,
                 [&](int64_t task) { scan(task % split_.num_groups, task / split_.num_groups); });
  }

  // The user's result, best first; to be asked for once.
  std::vector<ScoredItem> take_best(int64_t user) {
    std::vector<ScoredItem> all;
    for (int64_t range = 0; range < split_.num_ranges; ++range) {
      const ScoredItem* best = best_of(user, range);
      all.insert(all.end(), best, best + num_best_[range * batch_ + user]);
    }
    const auto kept = std::min<std::ptrdiff_t>(k_, static_cast<std::ptrdiff_t>(all.size()));
    std::partial_sort(all.begin(), all.begin() + kept, all.end(), is_better);
    all.resize(kept);
    return all;
  }

 private:
  ScoredItem* best_of(int64_t user, int64_t range) { return best_.data() + (range * batch_ + user) * k_; }

  void scan(int64_t group, int64_t range) {
    const int64_t first_user = group * split_.users_per_group;
    const int64_t last_user = std::min(batch_, first_user + split_.users_per_group);
    std::vector<TopkQuery> queries;
    for (int64_t user = first_user; user < last_user; ++user) {
      TopkQuery query = interests_.topk_query(user);
      query.exclude = excluded_.items(user);
      query.num_exclude = excluded_.size_of(user);
      query.best = best_of(user, range);
      query.k = k_;
      queries.push_back(query);
    }
    const int64_t first_item = range * split_.rows_per_range;
    const int64_t last_item = std::min(catalog_.num_items, first_item + split_.rows_per_range);
    const Scratch scratch;
    kernels_.score_topk(catalog_, first_item, last_item, queries.data(), static_cast<int64_t>(queries.size()),
                        scratch.get());
    for (int64_t user = first_user; user < last_user; ++user) {
      num_best_[range * batch_ + user] = queries[user - first_user].num_best;
    }
  }

  const CatalogView& catalog_;
  int64_t batch_;
  int64_t k_;
  const Interests& interests_;
  const Excluded& excluded_;
  Split split_;
  const cpu::KernelTable& kernels_;
  std::vector<ScoredItem> best_;   // [num_ranges, batch, k]
  std::vector<int64_t> num_best_;  // [num_ranges, batch]
};

void check_score(float score, int64_t user, int64_t item) {
  if (std::isfinite(score)) return;
  refuse("queries", "scores within float32",
         "one beyond it for user " + std::to_string(user) + ", row " + std::to_string(item));
}

int checked_threads(int threads) {
  check_between("threads", threads, 0, std::numeric_limits<int>::max());
  return threads == 0 ? default_threads() : threads;
}

}  // namespace

void score_topk(const CatalogView& catalog, const ScoreTopkRequest& request, float* scores, int64_t* indices,
                int64_t* counts, const cpu::KernelTable& kernels) {
  check_between("k", request.k, 1, kAny);
  const int threads = checked_threads(request.threads);
  check_queries(catalog, request);
  const Excluded excluded(request, catalog.num_items);
  std::fill_n(scores, request.batch * request.k, 0.0f);
  std::fill_n(indices, request.batch * request.k, -1);
  std::fill_n(counts, request.batch, 0);
  if (request.batch == 0 || catalog.num_items == 0) return;

  Interests interests(request, catalog.dim);
  interests.code();
  const Split split =
      split_work(catalog, request.batch, interests.size(), std::min(request.k, catalog.num_items), threads);
  Search search(catalog, request, interests, excluded, split, kernels);
  search.scan();
  for (int64_t user = 0; user < request.batch; ++user) {
    for (const ScoredItem& found : search.take_best(user)) {
      check_score(found.score, user, found.item);
      const int64_t place = user * request.k + counts[user]++;
      scores[place] = found.score;
      indices[place] = found.item;
    }
  }
}

void score_items(const CatalogView& catalog, const ScoreQueries& queries, const int64_t* items,
                 const int64_t* item_offsets, float* scores, int threads) {
  threads = checked_threads(threads);
  check_queries(catalog, queries);
  check_offsets("item_offsets", item_offsets, queries.batch);
  check_items("items", items, item_offsets, queries.batch, catalog.num_items);
  const Interests interests(queries, catalog.dim);
  parallel_for(queries.batch, threads, [&](int64_t user) {
    for (int64_t i = item_offsets[user]; i < item_offsets[user + 1]; ++i) {
      scores[i] = static_cast<float>(interests.score(catalog, user, items[i]));
    }
  });
  for (int64_t user = 0; user < queries.batch; ++user) {
    for (int64_t i = item_offsets[user]; i < item_offsets[user + 1]; ++i) check_score(scores[i], user, items[i]);
  }
}

}  // namespace lsif::engine
