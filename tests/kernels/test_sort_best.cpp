// sort_best: the k best in the order of results, compared with a sort by comparisons.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "engine/sort_best.h"

namespace {

using lsif::ScoredItem;
using lsif::engine::is_better;
using lsif::engine::sort_best;
using Scores = std::function<float(std::mt19937&)>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float normal(std::mt19937& random) { return std::normal_distribution<float>()(random); }

template <size_t kSize>
Scores one_of(const float (&values)[kSize]) {
  return [values = std::vector<float>(values, values + kSize)](std::mt19937& random) {
    return values[random() % values.size()];
  };
}

std::vector<ScoredItem> random_items(std::mt19937& random, int64_t size, const Scores& score) {
  std::vector<ScoredItem> items(size);
  for (int64_t i = 0; i < size; ++i) items[i] = {score(random), 3 * i - size};
  std::shuffle(items.begin(), items.end(), random);
  return items;
}

bool same(const ScoredItem& a, const ScoredItem& b) {
  return std::memcmp(&a.score, &b.score, sizeof a.score) == 0 && a.item == b.item;
}

void check(const std::string& name, const Scores& score) {
  std::mt19937 random(7);
  for (const int64_t size : {0, 1, 2, 63, 64, 65, 255, 1000, 5000}) {
    for (const int64_t k : {int64_t{1}, int64_t{63}, int64_t{64}, size - 1, size, size + 1}) {
      if (k < 1) continue;
      std::vector<ScoredItem> items = random_items(random, size, score);
      std::vector<ScoredItem> expected = items;
      std::sort(expected.begin(), expected.end(), is_better);
      expected.resize(std::min(size, k));
      items.resize(sort_best(items.data(), items.data() + size, k) - items.data());
      CHECK_MESSAGE(std::ranges::equal(items, expected, same),
                    name + ", k " + std::to_string(k) + " of " + std::to_string(size));
    }
  }
}

TEST(scores_of_every_size) {
  check("normal", normal);
  check("all exponents", [](std::mt19937& random) { return std::ldexp(normal(random), int(random() % 250) - 125); });
  check("subnormal", [](std::mt19937& random) { return std::ldexp(normal(random), -140); });
}

TEST(equal_scores_are_ordered_by_item) {
  check("few", [](std::mt19937& random) { return std::floor(normal(random)); });
  check("one", one_of({2.5f}));
}

TEST(zeros_are_equal_and_infinities_are_ends) {
  check("zeros", one_of({0.0f, -0.0f}));
  check("infinities", one_of({kInfinity, -kInfinity, 1.0f, -1.0f, 0.0f, -0.0f}));
}

}  // namespace
