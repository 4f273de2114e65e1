// From events to interests: the same bits in any batch and for any number of threads, and no memory kept. Whether the
// values are right is checked by tests/test_encode.py, which has the model in float64.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <thread>
#include <vector>

#include "check.h"
#include "engine/scratch.h"
#include "random_model.h"

namespace {

using guarded::Matrix;
using lsif::engine::EventBatch;
using lsif::engine::Scratch;
using request_test::Batch;
using request_test::encoder_configs;
using request_test::History;
using request_test::hstu_config;
using request_test::ModelConfig;
using request_test::random_history;
using request_test::RandomModel;
using request_test::transformer_config;

// What encode wrote, a row per user: fused, interests, weights.
struct Encoding {
  explicit Encoding(const ModelConfig& c, int64_t batch)
      : fused(batch, c.dim), interests(batch, c.num_interests() * c.dim), weights(batch, c.num_interests()) {}

  bool has_same_row(int64_t b, const Encoding& other, int64_t row) const {
    return same_bits(fused, b, other.fused, row) && same_bits(interests, b, other.interests, row) &&
           same_bits(weights, b, other.weights, row);
  }

  Matrix fused;
  Matrix interests;
  Matrix weights;
};

Encoding encoded(const RandomModel& model, const EventBatch& events, int threads) {
  lsif::engine::check_events(model.config, events);
  Encoding out(model.config, events.batch);
  lsif::engine::encode(*model.model, events, threads, {out.fused.data(), out.interests.data(), out.weights.data()});
  return out;
}

Encoding encoded(const RandomModel& model, const std::vector<History>& histories, int threads) {
  const Batch batch(histories);
  return encoded(model, batch.events(), threads);
}

// History lengths around all limits at which a model cuts histories.
std::vector<History> histories_for(const ModelConfig& c) {
  oracle::Random random(2);
  std::vector<History> histories;
  const int64_t w = c.window;
  for (const int64_t seq_len : {int64_t{0}, int64_t{1}, w - 1, w, w + 1, c.short_window + 1, int64_t{63}, int64_t{64},
                                int64_t{65}, int64_t{0}, int64_t{500}}) {
    histories.push_back(random_history(random, seq_len));
  }
  return histories;
}

int64_t num_threads_of_process() {
  const std::filesystem::directory_iterator threads("/proc/self/task");
  return std::distance(begin(threads), end(threads));
}

// Must run before any test that starts workers.
TEST(a_model_made_on_one_thread_starts_no_other) {
  ModelConfig c = transformer_config();
  c.num_items = 40000;  // enough values for several tasks
  const int64_t before = num_threads_of_process();
  const RandomModel one(c, 1);
  encoded(one, histories_for(c), 1);
  CHECK(num_threads_of_process() == before);
  const RandomModel three(c, 3);
  CHECK(num_threads_of_process() >= before + 2);  // a sanitizer may add a thread
}

TEST(users_depend_neither_on_the_batch_nor_on_threads) {
  for (const ModelConfig& c : encoder_configs()) {
    const RandomModel model(c);
    std::vector<History> histories = histories_for(c);
    std::vector<Encoding> alone;
    for (const History& history : histories) alone.push_back(encoded(model, std::vector{history}, 1));
    for (const bool reversed : {false, true}) {
      const auto size = static_cast<int64_t>(histories.size());
      for (const int threads : {1, 2, 3, 7}) {
        const Encoding all = encoded(model, histories, threads);
        for (int64_t b = 0; b < size; ++b) CHECK(all.has_same_row(b, alone[reversed ? size - 1 - b : b], 0));
        CHECK(all.fused.gaps_intact() && all.interests.gaps_intact() && all.weights.gaps_intact());
      }
      std::reverse(histories.begin(), histories.end());
    }
    CHECK(encoded(model, std::vector<History>(), 2).fused.rows() == 0);
  }
}

TEST(weights_sum_to_one_and_weigh_the_interests) {
  for (const ModelConfig& c : encoder_configs()) {
    const RandomModel model(c);
    const std::vector<History> histories = histories_for(c);
    const Encoding all = encoded(model, histories, 2);
    const int64_t num_interests = c.num_interests();
    for (int64_t b = 0; b < all.fused.rows(); ++b) {
      const bool is_empty = histories[b].items.empty();
      double sum = 0;
      for (int64_t a = 0; a < num_interests; ++a) sum += static_cast<double>(all.weights.at(b, a));
      CHECK_NEAR(sum, is_empty ? 0 : 1, static_cast<double>(num_interests + 2) * oracle::kUnit);
      for (int64_t i = 0; i < c.dim; ++i) {
        double expected = 0;
        double size = 0;
        for (int64_t a = 0; a < num_interests; ++a) {
          const double term = static_cast<double>(all.weights.at(b, a)) * all.interests.at(b, a * c.dim + i);
          expected += term;
          size += std::fabs(term);
        }
        CHECK_NEAR(all.fused.at(b, i), expected, static_cast<double>(num_interests) * oracle::kUnit * size);
        CHECK((all.fused.at(b, i) == 0) == is_empty);
      }
    }
  }
}

// Without long-term interests, states depend only on the events the windows reach, wherever these begin in memory.
TEST(events_out_of_reach_do_not_matter) {
  ModelConfig c = hstu_config();
  c.num_long = 0;
  const RandomModel model(c);
  const int64_t reach = c.short_window + c.num_layers * (c.window - 1);
  oracle::Random random(3);
  const History whole = random_history(random, 500);
  const auto cut = [](const std::vector<int64_t>& values, int64_t length) {
    return std::vector<int64_t>(values.end() - length, values.end());
  };
  const auto newest = [&](int64_t length) {
    const History recent = {cut(whole.items, length), cut(whole.times, length), cut(whole.actions, length), whole.now};
    return encoded(model, std::vector{recent}, 1);
  };
  const Encoding all = encoded(model, std::vector{whole}, 1);
  CHECK(same_bits(all.interests, 0, newest(reach).interests, 0));
  CHECK(!same_bits(all.interests, 0, newest(reach - 1).interests, 0));
}

TEST(an_input_table_changes_no_bit) {
  for (ModelConfig c : encoder_configs()) {
    c.num_actions = 0;
    const std::vector<History> histories = histories_for(c);
    const RandomModel without(c);
    const int64_t bytes = c.num_items * without.model->layers()[0].input.out_dim * static_cast<int64_t>(sizeof(float));
    CHECK(!without.model->has_input_table());
    CHECK(!RandomModel(c, 1, {bytes - 1}).model->has_input_table());
    const RandomModel with(c, 3, {bytes});
    CHECK(with.model->has_input_table());
    const Encoding expected = encoded(without, histories, 1);
    const Encoding result = encoded(with, histories, 1);
    for (int64_t b = 0; b < result.fused.rows(); ++b) CHECK(result.has_same_row(b, expected, b));
    c.num_actions = 3;  // the first layer's inputs then depend on actions, too
    CHECK(!RandomModel(c, 1, {bytes}).model->has_input_table());
  }
}

// Also with tables, and after the model with fewer items is destroyed.
TEST(a_model_with_further_items_is_the_one_made_anew) {
  for (ModelConfig c : encoder_configs()) {
    const std::vector<History> histories = histories_for(c);
    const int64_t num_items = c.num_items;
    c.num_items -= 50;
    c.num_actions = c.block == lsif::engine::Block::kHstu ? c.num_actions : 0;
    for (const int64_t table_bytes : {0, 1 << 16, 1 << 30}) {
      const lsif::engine::ModelOptions options = {table_bytes};
      RandomModel model(c, 1, options);
      guarded::Array<float> embedding(num_items * c.dim);
      const float* had = model.floats("item_embedding");
      for (int64_t i = 0; i < embedding.size(); ++i) {
        embedding[i] = i < c.num_items * c.dim ? had[i] : 0.1f * static_cast<float>(i % 7);
      }
      model.model = std::make_unique<lsif::engine::Model>(*model.model, embedding.data(), num_items, 2);
      CHECK(model.model->config().num_items == num_items);
      model.config.num_items = num_items;
      const Encoding grown = encoded(model, histories, 1);
      const bool has_table = model.model->has_input_table();
      for (const void*& data : model.data) data = data == had ? embedding.data() : data;
      model.model = std::make_unique<lsif::engine::Model>(model.config, model.data, 1, options);
      CHECK(model.model->has_input_table() == has_table);
      const Encoding anew = encoded(model, histories, 1);
      for (int64_t b = 0; b < anew.fused.rows(); ++b) CHECK(grown.has_same_row(b, anew, b));
    }
  }
}

TEST(further_items_are_checked_and_others_are_not) {
  ModelConfig c = hstu_config();
  const RandomModel model(c);
  guarded::Array<float> embedding((c.num_items + 2) * c.dim);
  std::copy_n(model.floats("item_embedding"), c.num_items * c.dim, embedding.data());
  std::fill_n(embedding.data() + c.num_items * c.dim, 2 * c.dim, 0.5f);
  using lsif::engine::Model;
  CHECK(Model(*model.model, embedding.data(), c.num_items + 2, 1).config().num_items == c.num_items + 2);
  CHECK_THROWS(Model(*model.model, embedding.data(), c.num_items - 1, 1), "num_items: expected at least 300, got 299");
  embedding[(c.num_items + 1) * c.dim] = NAN;
  CHECK_THROWS(Model(*model.model, embedding.data(), c.num_items + 2, 1),
               "item_embedding, its new rows: expected finite float32 values, got nan at position [1, 0]");
  CHECK(Model(*model.model, embedding.data(), c.num_items + 1, 1).config().num_items == c.num_items + 1);
}

// The distance of b from a, relative to the length of a.
double distance(const Matrix& a, const Matrix& b, int64_t row) {
  double squared = 0;
  double length = 0;
  for (int64_t c = 0; c < a.columns(); ++c) {
    squared += std::pow(static_cast<double>(a.at(row, c)) - b.at(row, c), 2);
    length += std::pow(static_cast<double>(a.at(row, c)), 2);
  }
  return std::sqrt(squared / length);
}

TEST(bfloat16_is_near_float32_and_as_independent_of_batch_threads_and_table) {
  for (ModelConfig c : encoder_configs()) {
    c.num_actions = 0;
    const std::vector<History> histories = histories_for(c);
    const Encoding exact = encoded(RandomModel(c), histories, 1);
    const RandomModel model(c, 1, {0, lsif::engine::Precision::kBfloat16});
    const RandomModel tabled(c, 1, {int64_t{1} << 30, lsif::engine::Precision::kBfloat16});
    const Encoding all = encoded(model, histories, 3);
    const Encoding by_table = encoded(tabled, histories, 2);
    double farthest = 0;
    for (int64_t b = 0; b < all.fused.rows(); ++b) {
      CHECK(by_table.has_same_row(b, all, b));
      CHECK(encoded(model, std::vector{histories[b]}, 1).has_same_row(0, all, b));
      if (!histories[b].items.empty()) farthest = std::fmax(farthest, distance(exact.interests, all.interests, b));
    }
    CHECK(farthest > 1e-4);
    CHECK(farthest < 2e-2);
  }
}

TEST(only_last_layers_of_transformers_make_no_keys) {
  const auto absorbs = [](ModelConfig c) {
    const RandomModel random(c);
    const std::vector<lsif::engine::Layer>& layers = random.model->layers();
    for (size_t l = 0; l + 1 < layers.size(); ++l) CHECK(!layers[l].is_absorbed());
    return layers.back().is_absorbed();
  };
  CHECK(!absorbs(hstu_config()));
  ModelConfig c = transformer_config();
  CHECK(absorbs(c));
  c.num_layers = 1;
  CHECK(absorbs(c));
  CHECK(!RandomModel(c, 1, {int64_t{1} << 30}).model->has_input_table());  // nothing would read it
  // With many states and heads, absorbing costs more than computing keys.
  c.num_short = 1;
  c.short_window = c.dim / (c.num_heads - 1) - 1;
  CHECK(absorbs(c));
  c.short_window += 1;
  CHECK(!absorbs(c));
}

TEST(several_threads_may_encode_at_once) {
  const RandomModel model(hstu_config());
  const Batch batch(histories_for(model.config));
  const Encoding expected = encoded(model, batch.events(), 1);
  std::atomic<int64_t> num_different{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      for (int repeat = 0; repeat < 10; ++repeat) {
        const Encoding result = encoded(model, batch.events(), 1 + (caller + repeat) % 3);
        for (int64_t b = 0; b < batch.events().batch; ++b) num_different += !result.has_same_row(b, expected, b);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(num_different == 0);
}

TEST(a_long_history_leaves_no_memory_behind) {
  const RandomModel model(hstu_config());
  oracle::Random random(4);
  const std::vector<History> brief = {random_history(random, 50)};
  const Encoding before = encoded(model, brief, 1);
  constexpr int64_t kLong = 400000;
  static_assert(kLong * 12 * sizeof(float) > Scratch::kMostKept);
  encoded(model, std::vector{random_history(random, kLong)}, 1);
  CHECK(Scratch::size_of_thread() <= Scratch::kMostKept);
  const Encoding after = encoded(model, brief, 1);
  CHECK(after.has_same_row(0, before, 0));
  const size_t kept = Scratch::size_of_thread();
  CHECK(kept > 0);
  encoded(model, brief, 1);
  CHECK(Scratch::size_of_thread() == kept);
}

TEST(scratch_is_a_stack) {
  std::thread([] {  // nothing is kept yet
    CHECK(Scratch::size_of_thread() == 0);
    {
      Scratch outer;
      float* first = outer.floats(10);
      first[9] = 1.0f;
      {
        Scratch inner;
        int64_t* big = inner.ints(int64_t{1} << 22);
        big[(int64_t{1} << 22) - 1] = 5;
        CHECK(reinterpret_cast<uintptr_t>(big) % 64 == 0);
      }
      // As the outer Scratch is alive, everything is kept for later use.
      CHECK(Scratch::size_of_thread() > Scratch::kMostKept);
      CHECK(first[9] == 1.0f);
      const Scratch::Mark mark(outer);
      CHECK(outer.floats(0) != nullptr);
      CHECK(outer.floats(1) != outer.floats(1));
    }
    CHECK(Scratch::size_of_thread() <= Scratch::kMostKept);
    Scratch again;
    again.floats(1000)[999] = 2.0f;
  })
      .join();
}

TEST(events_that_cannot_be_used_are_refused) {
  const ModelConfig c = hstu_config();
  const int64_t items[] = {0, 299, 5};
  const int64_t actions[] = {0, 3, 1};
  const int64_t offsets[] = {0, 1, 3};
  const EventBatch good = {items, nullptr, actions, offsets, nullptr, 3, 2};
  const auto with = [&](auto change) {
    EventBatch events = good;
    change(events);
    lsif::engine::check_events(c, events);
  };
  with([](EventBatch&) {});
  const int64_t bad_items[] = {0, 300, 5};
  const int64_t bad_actions[] = {0, 3, -1};
  const int64_t bad_offsets[] = {0, 4, 3};
  CHECK_THROWS(with([&](EventBatch& e) { e.items = bad_items; }),
               "items: expected values in [0, 299], got 300 at position 1");
  CHECK_THROWS(with([&](EventBatch& e) { e.actions = bad_actions; }),
               "actions: expected values in [0, 3], got -1 at position 2");
  CHECK_THROWS(with([&](EventBatch& e) { e.offsets = bad_offsets; }), "offsets: expected");
  CHECK_THROWS(with([&](EventBatch& e) { e.total = 2; }), "offsets: expected a last value of 2");
}

TEST(weights_that_cannot_be_used_are_refused) {
  const RandomModel model(hstu_config());
  const auto with = [&](const char* name, float value) {
    float& weight = model.floats(name)[1];
    const float old = weight;
    weight = value;
    CHECK_THROWS(lsif::engine::Model(model.config, model.data, 2), std::string(name) + ": expected");
    weight = old;
  };
  with("item_embedding", std::nanf(""));
  with("fusion.logits.bias", HUGE_VALF);
  with("long_pooling.decay", -1.0f);
  std::vector<const void*> some = model.data;
  some[3] = nullptr;
  CHECK_THROWS(lsif::engine::Model(model.config, some, 1), "expected a tensor, got none");
  some.pop_back();
  CHECK_THROWS(lsif::engine::Model(model.config, some, 1), "weights: expected");
  lsif::engine::Model(model.config, model.data, 2);
}

}  // namespace
