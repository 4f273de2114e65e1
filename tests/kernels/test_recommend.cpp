// One request from events to items: the same rows as a brute force search with encode's results, in any batch, for any
// number of threads, and for several callers at once.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <thread>
#include <vector>

#include "check.h"
#include "engine/recommend.h"
#include "engine/repeats.h"
#include "random_model.h"

namespace {

using lsif::engine::EventBatch;
using lsif::engine::RecommendRequest;
using lsif::engine::Scoring;
using request_test::Batch;
using request_test::History;
using request_test::hstu_config;
using request_test::ModelConfig;
using request_test::random_history;
using request_test::RandomModel;
using request_test::transformer_config;
using score_topk_test::Catalog;

constexpr int64_t kNumItems = 300;

ModelConfig repeats_config() {
  ModelConfig c = hstu_config();
  c.repeats = true;
  return c;
}

struct Answer {
  std::vector<float> scores;
  std::vector<int64_t> indices;
  std::vector<int64_t> counts;
  std::vector<float> long_share;
  bool operator==(const Answer&) const = default;
};

// A model, its catalogue, and users with the items they exclude.
struct Shop {
  explicit Shop(const ModelConfig& config)
      : model(config), catalog(catalog_of(config)), histories(histories_of(config)) {
    oracle::Random random(6);
    for (size_t user = 0; user < histories.size(); ++user) {
      const int64_t count = user % 3 == 0 ? 0 : user % 3 == 1 ? 20 : 250;
      for (int64_t i = 0; i < count; ++i) exclude_items.push_back(random.integer(0, kNumItems - 1));
      exclude_offsets.push_back(static_cast<int64_t>(exclude_items.size()));
    }
  }

  static Catalog catalog_of(const ModelConfig& config) {
    score_topk_test::Random random(5);
    return Catalog(score_topk_test::normals(random, kNumItems * config.dim), config.dim,
                   score_topk_test::make_bias(random, kNumItems, 1.0f));
  }

  static std::vector<History> histories_of(const ModelConfig& config) {
    oracle::Random random(7);
    std::vector<History> all;
    for (const int64_t seq_len :
         {int64_t{0}, int64_t{1}, config.window - 1, config.window, config.window + 1, int64_t{500}, int64_t{0}}) {
      all.push_back(random_history(random, seq_len));
    }
    return all;
  }

  RandomModel model;
  Catalog catalog;
  std::vector<History> histories;
  std::vector<int64_t> exclude_items;
  std::vector<int64_t> exclude_offsets = {0};
};

struct Wish {
  Scoring scoring;
  int64_t k;
  bool exclude_seen;
  bool exclude_more;
};

std::vector<Wish> wishes() {
  return {{{false, 1.0}, 10, true, false},
          {{true, 0.5}, 10, false, true},
          {{false, 1.0}, 400, true, true},
          {{true, 2.0}, 1, false, false},
          {{false, 1.0}, 400, false, true}};
}

Answer answered(const Shop& shop, const Wish& wish, int64_t begin, int64_t end, int threads) {
  const Batch batch({shop.histories.begin() + begin, shop.histories.begin() + end});
  std::vector<int64_t> exclude_offsets;
  const int64_t first = shop.exclude_offsets[begin];
  for (int64_t user = begin; user <= end; ++user) exclude_offsets.push_back(shop.exclude_offsets[user] - first);
  RecommendRequest request{};
  request.events = batch.events();
  request.k = wish.k;
  request.exclude_seen = wish.exclude_seen;
  if (wish.exclude_more) {
    request.exclude_items = shop.exclude_items.data() + first;
    request.exclude_offsets = exclude_offsets.data();
  }
  request.threads = threads;
  const auto size = static_cast<size_t>(end - begin);
  const auto places = size * static_cast<size_t>(wish.k);
  Answer answer = {std::vector<float>(places), std::vector<int64_t>(places), std::vector<int64_t>(size),
                   std::vector<float>(size)};
  lsif::engine::recommend(
      *shop.model.model, shop.catalog.view(), wish.scoring, request,
      {answer.scores.data(), answer.indices.data(), answer.counts.data(), answer.long_share.data()});
  return answer;
}

Answer answered(const Shop& shop, const Wish& wish, int threads) {
  return answered(shop, wish, 0, static_cast<int64_t>(shop.histories.size()), threads);
}

// The rows that `user` may get, best first, by the exact scores of all rows.
std::vector<lsif::ScoredItem> brute_force(const Shop& shop, const Wish& wish, int64_t user, float* long_share) {
  const ModelConfig& c = shop.model.config;
  const Batch batch({shop.histories[user]});
  std::vector<float> fused(c.dim);
  std::vector<float> interests(c.num_interests() * c.dim);
  std::vector<float> weights(c.num_interests());
  lsif::engine::encode(*shop.model.model, batch.events(), 1, {fused.data(), interests.data(), weights.data()});
  *long_share = static_cast<float>(std::min(1.0, std::accumulate(weights.begin(), weights.begin() + c.num_long, 0.0)));
  std::vector<bool> excluded(kNumItems, false);
  if (wish.exclude_seen) {
    for (const int64_t item : shop.histories[user].items) excluded[item] = true;
  }
  for (int64_t i = shop.exclude_offsets[user]; wish.exclude_more && i < shop.exclude_offsets[user + 1]; ++i) {
    excluded[shop.exclude_items[i]] = true;
  }
  const bool is_empty = shop.histories[user].items.empty();
  const lsif::CatalogView view = shop.catalog.view();
  std::vector<float> bonus(kNumItems);
  if (c.repeats) {
    const float* newest = interests.data() + (c.num_interests() - 1) * c.dim;
    lsif::engine::Scratch scratch;
    const auto own = lsif::engine::repeat_bonuses(*shop.model.model, batch.events(), newest, c.dim, 1, scratch);
    for (int64_t i = 0; i < own.size(); ++i) bonus[own.rows[i]] = own.values[i];
  }
  const lsif::ExactScoreFn* exact_score = lsif::cpu::runnable_kernels().back()->exact_score;  // the scalar one
  std::vector<lsif::ScoredItem> rows;
  for (int64_t item = 0; item < kNumItems; ++item) {
    if (excluded[item]) continue;
    const float* x = view.vectors + item * c.dim;
    double score = view.bias[item];  // without events, the bias is the whole score
    if (!is_empty && wish.scoring.multi_interest) {
      score = exact_score(interests.data(), weights.data(), c.num_interests(), wish.scoring.temperature, x,
                          view.bias[item], c.dim);
    } else if (!is_empty) {
      score = exact_score(fused.data(), nullptr, 1, 1.0, x, view.bias[item], c.dim);
    }
    rows.push_back({static_cast<float>(score) + bonus[item], item});
  }
  const auto is_better = [](const auto& a, const auto& b) { return a.score > b.score; };
  std::stable_sort(rows.begin(), rows.end(), is_better);
  return rows;
}

TEST(the_best_rows_of_what_encode_gives) {
  for (const ModelConfig& config : {hstu_config(), transformer_config(), repeats_config()}) {
    const Shop shop(config);
    for (const Wish& wish : wishes()) {
      const Answer answer = answered(shop, wish, 2);
      for (size_t user = 0; user < shop.histories.size(); ++user) {
        float long_share = -1;
        const auto expected = brute_force(shop, wish, static_cast<int64_t>(user), &long_share);
        const auto count = std::min<int64_t>(wish.k, static_cast<int64_t>(expected.size()));
        CHECK(answer.counts[user] == count);
        CHECK(answer.long_share[user] == long_share);
        for (int64_t i = 0; i < wish.k; ++i) {
          const size_t place = user * static_cast<size_t>(wish.k) + static_cast<size_t>(i);
          CHECK(answer.indices[place] == (i < count ? expected[i].item : -1));
          CHECK(answer.scores[place] == (i < count ? expected[i].score : 0.0f));
        }
      }
    }
  }
}

TEST(the_bonus_is_of_distinct_items_and_grows_with_their_events) {
  const RandomModel model(repeats_config());
  const std::vector<float> newest(2 * model.config.dim);
  const History often = {{7, 4, 7, 7}, {lsif::kUnknownTime, 0, 0, 0}, {0, 0, 0, 0}, lsif::kUnknownTime};
  const History once = {{4, 7}, {0, 0}, {0, 0}, lsif::kUnknownTime};
  for (const int threads : {1, 2}) {
    const Batch batch({often, once});
    lsif::engine::Scratch scratch;
    const auto own =
        lsif::engine::repeat_bonuses(*model.model, batch.events(), newest.data(), model.config.dim, threads, scratch);
    CHECK((std::vector<int64_t>(own.rows, own.rows + own.size()) == std::vector<int64_t>{4, 7, 4, 7}));
    CHECK((std::vector<int64_t>(own.offsets, own.offsets + 3) == std::vector<int64_t>{0, 2, 4}));
    CHECK(own.values[1] > own.values[3] && own.values[3] > 0);
  }
}

TEST(users_depend_neither_on_the_batch_nor_on_threads) {
  const Shop shop(repeats_config());
  const auto size = static_cast<int64_t>(shop.histories.size());
  for (const Wish& wish : wishes()) {
    const Answer all = answered(shop, wish, 1);
    for (const int threads : {2, 3, 7}) CHECK(answered(shop, wish, threads) == all);
    for (int64_t user = 0; user < size; ++user) {
      const Answer one = answered(shop, wish, user, user + 1, 1 + static_cast<int>(user % 3));
      CHECK(std::equal(one.scores.begin(), one.scores.end(), all.scores.begin() + user * wish.k));
      CHECK(std::equal(one.indices.begin(), one.indices.end(), all.indices.begin() + user * wish.k));
      CHECK(one.counts[0] == all.counts[user]);
      CHECK(one.long_share[0] == all.long_share[user]);
    }
    CHECK(answered(shop, wish, 3, 3, 2).counts.empty());
  }
}

TEST(several_threads_may_recommend_at_once) {
  const Shop shop(repeats_config());
  std::vector<Answer> expected;
  for (const Wish& wish : wishes()) expected.push_back(answered(shop, wish, 1));
  std::atomic<int> num_different{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      for (int repeat = 0; repeat < 8; ++repeat) {
        const auto which = static_cast<size_t>(caller + repeat) % expected.size();
        num_different += !(answered(shop, wishes()[which], 1 + repeat % 3) == expected[which]);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(num_different == 0);
}

}  // namespace
