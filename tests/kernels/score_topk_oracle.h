// Tests score_topk against two oracles: it must be bit-equal to brute force with the scalar kernels' exact_score, which
// in turn must be within rounding of the formula in long double.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "check.h"
#include "engine/score_topk.h"
#include "engine/sort_best.h"
#include "score_topk_data.h"
#include "tables.h"
#if defined(LSIF_TEST_CUDA)
#include "run_score_topk.h"
#endif

namespace score_topk_test {

using lsif::ScoredItem;
using lsif::cpu::KernelTable;
using lsif::engine::ScoreTopkRequest;

struct Question {
  ScoreTopkRequest request;
  std::vector<float> queries;
  std::vector<float> weights;
  std::vector<int64_t> exclude_items;
  std::vector<int64_t> exclude_offsets;
  std::vector<std::vector<uint64_t>> allowed;  // one per user; an empty one: all rows. Empty: no bitmaps
  std::vector<const uint64_t*> bitmaps;

  Question(std::vector<float> queries_, int64_t dim, int64_t num_interests, int64_t k) : queries(std::move(queries_)) {
    request.num_interests = num_interests;
    request.batch = static_cast<int64_t>(queries.size()) / (dim * num_interests);
    request.k = k;
    request.threads = 1;
  }

  // Sets the pointers late, so that a Question can be copied and modified.
  const ScoreTopkRequest& get() {
    request.vectors = queries.data();
    request.weights = weights.empty() ? nullptr : weights.data();
    request.exclude_items = exclude_offsets.empty() ? nullptr : exclude_items.data();
    request.exclude_offsets = exclude_offsets.empty() ? nullptr : exclude_offsets.data();
    bitmaps.clear();
    for (const auto& bitmap : allowed) bitmaps.push_back(bitmap.empty() ? nullptr : bitmap.data());
    request.allowed = allowed.empty() ? nullptr : bitmaps.data();
    return request;
  }

  // User 0 may get all rows, 1 none, 2 a few, 3 every other one, and so on.
  void allow(Random& random, int64_t num_items) {
    for (int64_t user = 0; user < request.batch; ++user) {
      std::vector<uint64_t> bitmap(user % 4 == 0 ? 0 : (num_items + 63) / 64, user % 4 == 3 ? 0x5555555555555555 : 0);
      for (int64_t i = 0; user % 4 == 2 && i < 9; ++i) {
        const uint64_t row = random() % num_items;
        bitmap[row / 64] |= uint64_t{1} << (row % 64);
      }
      allowed.push_back(bitmap);
    }
  }

  bool allows(int64_t user, int64_t item) const {
    if (allowed.empty() || allowed[user].empty()) return true;
    return (allowed[user][item / 64] >> (item % 64) & 1) != 0;
  }

  // User 0 excludes no rows, 1 all, 2 some, unsorted and repeated, and so on.
  void exclude(Random& random, int64_t num_items) {
    exclude_offsets = {0};
    for (int64_t user = 0; user < request.batch; ++user) {
      const int64_t count = user % 3 == 0 ? 0 : user % 3 == 1 ? num_items : (num_items + 1) / 2;
      for (int64_t i = 0; i < count; ++i) {
        exclude_items.push_back(user % 3 == 1 ? num_items - 1 - i : static_cast<int64_t>(random() % num_items));
      }
      exclude_offsets.push_back(static_cast<int64_t>(exclude_items.size()));
    }
  }

  bool excludes(int64_t user, int64_t item) const {
    if (exclude_offsets.empty()) return false;
    return std::find(exclude_items.begin() + exclude_offsets[user], exclude_items.begin() + exclude_offsets[user + 1],
                     item) != exclude_items.begin() + exclude_offsets[user + 1];
  }

  void weigh(Random& random) {
    for (int64_t i = 0; i < request.batch * request.num_interests; ++i) {
      weights.push_back(std::exp(2 * normal(random)));
    }
  }
};

struct Result {
  std::vector<float> scores;
  std::vector<int64_t> indices;
  std::vector<int64_t> counts;
  bool operator==(const Result&) const = default;
};

// Memory for an answer, filled with values that no answer contains.
inline Result room_for(const ScoreTopkRequest& request) {
  return {std::vector<float>(request.batch * request.k, -7.0f), std::vector<int64_t>(request.batch * request.k, -7),
          std::vector<int64_t>(request.batch, -7)};
}

inline Result run(const Catalog& catalog, Question& question, const KernelTable& table) {
  const ScoreTopkRequest& request = question.get();
  Result result = room_for(request);
#if defined(LSIF_TEST_CUDA)
  run_on_cuda(catalog.view(), request, result.scores.data(), result.indices.data(), result.counts.data());
  (void)table;
#else
  lsif::engine::score_topk(catalog.view(), request, result.scores.data(), result.indices.data(), result.counts.data(),
                           table);
#endif
  return result;
}

struct Oracle {
  long double score;
  long double tolerance;  // of exact_score, before its rounding to float32
};

inline Oracle formula(const Catalog& catalog, const Question& question, int64_t user, int64_t item) {
  const ScoreTopkRequest& request = question.request;
  const float* x = catalog.view().vectors + item * catalog.dim;
  std::vector<long double> dots;
  long double size = 0;
  for (int64_t j = 0; j < request.num_interests; ++j) {
    const float* q = question.queries.data() + (user * request.num_interests + j) * catalog.dim;
    long double dot = 0;
    long double of_dot = 0;
    for (int64_t i = 0; i < catalog.dim; ++i) {
      dot += static_cast<long double>(q[i]) * x[i];
      of_dot += std::fabs(static_cast<long double>(q[i]) * x[i]);
    }
    dots.push_back(dot);
    size = std::max(size, of_dot);
  }
  const long double b = catalog.bias.empty() ? 0 : catalog.bias[item];
  long double score = dots[0];
  if (!question.weights.empty()) {
    const long double largest = *std::max_element(dots.begin(), dots.end());
    long double sum = 0;
    for (int64_t j = 0; j < request.num_interests; ++j) {
      const long double weight = question.weights[user * request.num_interests + j];
      sum += weight * std::exp((dots[j] - largest) / request.temperature);
    }
    score = largest + request.temperature * std::log(sum);
    size += request.temperature * (std::fabs(std::log(sum)) + request.num_interests);
  }
  return {score + b, (size + std::fabs(b)) * static_cast<long double>(catalog.dim + 40) * 0x1p-53L};
}

inline double shared_score(const Catalog& catalog, const Question& question, int64_t user, int64_t item) {
  const int64_t num_interests = question.request.num_interests;
  const CatalogView view = catalog.view();
  const lsif::ExactScoreFn* exact_score = lsif::cpu::runnable_kernels().back()->exact_score;
  return exact_score(question.queries.data() + user * num_interests * catalog.dim,
                     question.weights.empty() ? nullptr : question.weights.data() + user * num_interests, num_interests,
                     question.request.temperature, view.vectors + item * catalog.dim,
                     view.bias == nullptr ? 0.0f : view.bias[item], catalog.dim);
}

// Brute force; also checks every score against the formula.
inline Result brute_force(const Catalog& catalog, const Question& question) {
  const ScoreTopkRequest& request = question.request;
  Result result;
  result.scores.assign(request.batch * request.k, 0.0f);
  result.indices.assign(request.batch * request.k, -1);
  for (int64_t user = 0; user < request.batch; ++user) {
    std::vector<bool> excluded(catalog.num_items, false);
    if (!question.exclude_offsets.empty()) {
      for (int64_t i = question.exclude_offsets[user]; i < question.exclude_offsets[user + 1]; ++i) {
        excluded[question.exclude_items[i]] = true;
      }
    }
    std::vector<ScoredItem> all;
    for (int64_t item = 0; item < catalog.num_items; ++item) {
      if (excluded[item] || !question.allows(user, item)) continue;
      const double score = shared_score(catalog, question, user, item);
      all.push_back({static_cast<float>(score), item});
      const Oracle oracle = formula(catalog, question, user, item);
      CHECK(std::fabs(static_cast<long double>(score) - oracle.score) <= oracle.tolerance);
    }
    std::stable_sort(all.begin(), all.end(),
                     [](const ScoredItem& a, const ScoredItem& b) { return a.score > b.score; });
    const int64_t count = std::min<int64_t>(request.k, static_cast<int64_t>(all.size()));
    result.counts.push_back(count);
    for (int64_t i = 0; i < count; ++i) {
      result.scores[user * request.k + i] = all[i].score;
      result.indices[user * request.k + i] = all[i].item;
    }
  }
  return result;
}

#if defined(LSIF_TEST_CUDA) && !defined(LSIF_CUDA_EMULATED)
// With weights, a GPU's exponentials and logarithms may differ in their last bit (docs/cuda.md, "Exactness"). Scores
// must be float32 roundings of float64 scores within the formula's tolerance, and rows be ordered accordingly.
inline bool is_within_rounding(const Result& result, const Result& expected, const Catalog& catalog,
                               const Question& question, int64_t user) {
  const auto rounded = [](long double score) { return static_cast<float>(static_cast<double>(score)); };
  const int64_t k = question.request.k;
  std::vector<int64_t> items;
  for (int64_t i = user * k; i < (user + 1) * k; ++i) {
    const float score = result.scores[i];
    const int64_t item = result.indices[i];
    if (i - user * k >= expected.counts[user]) {
      if (score != 0 || item != -1) return false;
      continue;
    }
    if (item < 0 || item >= catalog.num_items || question.excludes(user, item) || !question.allows(user, item))
      return false;
    const bool is_first = i == user * k;
    if (!is_first && !(score <= result.scores[i - 1])) return false;
    if (!is_first && score == result.scores[i - 1] && item < result.indices[i - 1]) return false;
    items.push_back(item);
    if (std::isinf(expected.scores[i])) {
      if (score != expected.scores[i] || score != static_cast<float>(shared_score(catalog, question, user, item)))
        return false;
      continue;
    }
    const Oracle own = formula(catalog, question, user, item);
    const Oracle best = formula(catalog, question, user, expected.indices[i]);
    if (!(score >= rounded(own.score - own.tolerance) && score <= rounded(own.score + own.tolerance))) return false;
    if (!(rounded(own.score + own.tolerance) >= rounded(best.score - best.tolerance))) return false;
  }
  std::sort(items.begin(), items.end());
  return std::adjacent_find(items.begin(), items.end()) == items.end();
}
#endif

// Bit-equal, except where a GPU cannot be.
inline bool is_right(const Result& result, const Result& expected, [[maybe_unused]] const Catalog& catalog,
                     [[maybe_unused]] const Question& question) {
  if (result == expected) return true;
#if defined(LSIF_TEST_CUDA) && !defined(LSIF_CUDA_EMULATED)
  if (question.weights.empty() || result.counts != expected.counts) return false;
  for (int64_t user = 0; user < question.request.batch; ++user) {
    if (!is_within_rounding(result, expected, catalog, question, user)) return false;
  }
  return true;
#else
  return false;
#endif
}

// With and without an order; with the path for few rows, and always by scans.
inline void check_against_brute_force(const Catalog& catalog, Question& question, const std::string& what) {
  const Result expected = brute_force(catalog, question);
  const Catalog ordered = catalog.ordered();
  for (const KernelTable* table : lsif::cpu::tested_kernels()) {
    KernelTable scanning = *table;
    scanning.topk_rows = nullptr;
    for (const Catalog* coded : {&catalog, &ordered}) {
      for (const KernelTable* used : {table, static_cast<const KernelTable*>(&scanning)}) {
        if (used != table && table->topk_rows == nullptr) continue;
        CHECK_MESSAGE(is_right(run(*coded, question, *used), expected, catalog, question),
                      what + ": " + table->isa + (coded == &ordered ? ", ordered," : "") +
                          (used == &scanning ? ", scanned," : "") +
                          " differs from brute force: " + std::to_string(catalog.num_items) + " x " +
                          std::to_string(catalog.dim) + ", k " + std::to_string(question.request.k));
      }
    }
  }
}

}  // namespace score_topk_test
