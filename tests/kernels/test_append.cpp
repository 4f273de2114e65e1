// User states give what encoding the whole history gives, after any number of events, appended one by one or together,
// with or without a state in between.
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "check.h"
#include "engine/append.h"
#include "random_model.h"

namespace {

using lsif::engine::ConstUserState;
using lsif::engine::Fingerprint;
using lsif::engine::Model;
using lsif::engine::UserState;
using request_test::Batch;
using request_test::History;
using request_test::hstu_config;
using request_test::ModelConfig;
using request_test::RandomModel;
using request_test::transformer_config;

constexpr int64_t kRemember = 40;
constexpr Fingerprint kModel = {1, 2, 3};

// A state that ends at an unreadable page.
class State {
 public:
  explicit State(const ModelConfig& config)
      : config_(config), data_(lsif::engine::user_state_size(config, kRemember) / int64_t{8}) {
    lsif::engine::start_state(config, kModel, kRemember, bytes());
  }
  State(const State& other) : State(other.config_) { std::memcpy(bytes(), other.bytes(), size()); }

  std::byte* bytes() const { return reinterpret_cast<std::byte*>(const_cast<double*>(data_.data())); }
  size_t size() const { return static_cast<size_t>(data_.size()) * 8; }
  UserState view() const { return UserState(config_, kRemember, bytes()); }
  ConstUserState checked() const { return lsif::engine::check_state(config_, bytes(), static_cast<int64_t>(size())); }
  bool operator==(const State& other) const { return std::memcmp(bytes(), other.bytes(), size()) == 0; }

 private:
  ModelConfig config_;
  guarded::Array<double> data_;
};

struct Result {
  std::vector<float> fused, interests, weights;
  bool operator==(const Result&) const = default;
};

Result sized(const ModelConfig& c, size_t batch) {
  const size_t dim = static_cast<size_t>(c.dim);
  const size_t interests = static_cast<size_t>(c.num_interests());
  return {std::vector<float>(batch * dim), std::vector<float>(batch * interests * dim),
          std::vector<float>(batch * interests)};
}

Result encode_whole(const Model& model, const History& history) {
  Result result = sized(model.config(), 1);
  const Batch batch({history});
  lsif::engine::encode(model, batch.events(), 1, {result.fused.data(), result.interests.data(), result.weights.data()});
  return result;
}

Result encode_from(const Model& model, const std::vector<const State*>& states, const std::vector<int64_t>& now,
                   int threads = 1) {
  Result result = sized(model.config(), states.size());
  std::vector<ConstUserState> views;
  for (const State* state : states) views.push_back(state->checked());
  lsif::engine::encode_states(model, views, now.data(), threads,
                              {result.fused.data(), result.interests.data(), result.weights.data()});
  return result;
}

// Times repeat now and then; either all are known or none.
History history_of(oracle::Random& random, int64_t seq_len, bool is_timed) {
  History history = request_test::random_history(random, seq_len);
  int64_t time = 1700000000;
  for (int64_t& t : history.times) {
    time += random.integer(0, 3) == 0 ? 0 : random.integer(0, 200000);
    t = is_timed ? time : lsif::kUnknownTime;
  }
  if (history.now != lsif::kUnknownTime) history.now = time + random.integer(0, 1000000);
  return history;
}

History part(const History& history, size_t begin, size_t end) {
  const auto cut = [&](const std::vector<int64_t>& all) {
    return std::vector<int64_t>(all.begin() + static_cast<int64_t>(begin), all.begin() + static_cast<int64_t>(end));
  };
  return {cut(history.items), cut(history.times), cut(history.actions), history.now};
}

void append(const Model& model, const State& state, const History& history) {
  const Batch batch({history});
  lsif::engine::append(model, std::array{state.view()}, batch.events(), 1);
}

// Both results are sums of n products with weights that sum to 1, of terms with errors of a few units of 2^-24
// (interest_pooling.h); `value` and the fusion add a few more. Elements are below 10 here.
double tolerance(size_t n) { return (2.0 * static_cast<double>(n) + 200.0) * 0x1p-24 * 10.0; }

void check_same(const ModelConfig& c, const Result& got, const Result& expected, size_t n) {
  const size_t num_long = static_cast<size_t>(c.num_long * c.dim);
  for (size_t i = 0; i < expected.interests.size(); ++i) {
    if (i < num_long) {
      CHECK_NEAR(got.interests[i], expected.interests[i], tolerance(n));
    } else {
      CHECK(got.interests[i] == expected.interests[i]);
    }
  }
  for (size_t i = 0; i < expected.weights.size(); ++i) {
    CHECK_NEAR(got.weights[i], expected.weights[i], tolerance(n));
  }
  for (size_t i = 0; i < expected.fused.size(); ++i) {
    CHECK_NEAR(got.fused[i], expected.fused[i], tolerance(n));
  }
}

std::vector<ModelConfig> configs() {
  ModelConfig untimed = hstu_config();
  untimed.use_times = untimed.request_time = false;
  untimed.num_time_boundaries = 0;
  ModelConfig no_request = hstu_config();
  no_request.request_time = false;
  no_request.repeats = true;
  ModelConfig narrow = hstu_config();
  narrow.window = 1;
  narrow.num_layers = 1;
  narrow.short_window = 1;
  ModelConfig timed_transformer = hstu_config();
  timed_transformer.block = lsif::engine::Block::kTransformer;
  timed_transformer.ffn_dim = 10;
  timed_transformer.num_short = 0;
  return {hstu_config(), transformer_config(), untimed, no_request, narrow, timed_transformer};
}

TEST(states_give_what_whole_histories_give) {
  for (const ModelConfig& config : configs()) {
    const RandomModel random_model(config);
    const Model& model = *random_model.model;
    for (const bool is_timed : {true, false}) {
      oracle::Random random(7);
      const History history = history_of(random, 60, is_timed);
      State state(config);
      for (size_t n = 0; n <= 60; ++n) {
        if (n > 0) append(model, state, part(history, n - 1, n));
        const Result expected = encode_whole(model, part(history, 0, n));
        check_same(config, encode_from(model, {&state}, {history.now}), expected, n);
      }
      State at_once(config);
      append(model, at_once, part(history, 0, 60));
      CHECK(at_once == state);
      State in_parts(config);  // fewer than remembered, across the limit, none, past it
      for (const auto& [begin, end] : {std::pair<size_t, size_t>{0, 25}, {25, 50}, {50, 50}, {50, 60}}) {
        append(model, in_parts, part(history, begin, end));
      }
      CHECK(in_parts == state);
    }
  }
}

TEST(long_histories_stay_within_their_tolerance) {
  for (const ModelConfig& config : {hstu_config(), transformer_config()}) {
    const RandomModel random_model(config);
    const Model& model = *random_model.model;
    oracle::Random random(8);
    const History history = history_of(random, 5000, true);
    State state(config);
    append(model, state, part(history, 0, 5000));
    check_same(config, encode_from(model, {&state}, {history.now}), encode_whole(model, history), 5000);
    CHECK(state.checked().header->num_events == 5000);
    for (int64_t i = 0; i < kRemember; ++i) CHECK(state.checked().seen_items[i] == history.items[5000 - kRemember + i]);
  }
}

TEST(users_do_not_depend_on_each_other) {
  const ModelConfig config = hstu_config();
  const RandomModel random_model(config);
  const Model& model = *random_model.model;
  oracle::Random random(9);
  std::vector<State> states;
  std::vector<const State*> pointers;
  std::vector<int64_t> now;
  for (int64_t n : {0, 1, 5, 30}) {
    const History history = history_of(random, n, true);
    states.emplace_back(config);
    append(model, states.back(), part(history, 0, static_cast<size_t>(n)));
    now.push_back(history.now);
  }
  for (const State& state : states) pointers.push_back(&state);
  const Result all = encode_from(model, pointers, now, 3);
  for (size_t b = 0; b < states.size(); ++b) {
    const Result one = encode_from(model, {pointers[b]}, {now[b]});
    const size_t width = one.fused.size();
    CHECK(std::equal(one.fused.begin(), one.fused.end(), all.fused.begin() + static_cast<int64_t>(b * width)));
  }
}

TEST(parts_of_a_history_can_be_put_together) {
  for (const ModelConfig& config : configs()) {
    const RandomModel random_model(config);
    const Model& model = *random_model.model;
    oracle::Random random(10);
    const auto least = static_cast<size_t>(lsif::engine::independent_events(config));
    const size_t total = 50 + least;
    const History history = history_of(random, static_cast<int64_t>(total), true);
    for (const size_t older_events : {size_t{0}, size_t{1}, size_t{50}}) {
      State older(config), newer(config);
      append(model, older, part(history, 0, older_events));
      append(model, newer, part(history, older_events, total));
      lsif::engine::prepend(model, older.checked(), newer.view());
      const ConstUserState put_together = newer.checked();
      CHECK(put_together.header->num_events == static_cast<int64_t>(total));
      const int64_t seen = std::min<int64_t>(kRemember, static_cast<int64_t>(total));
      for (int64_t i = 0; i < seen; ++i) {
        CHECK(put_together.seen_items[i] == history.items[total - static_cast<size_t>(seen - i)]);
      }
      check_same(config, encode_from(model, {&newer}, {history.now}), encode_whole(model, history), total);
    }
    if (least < 2) continue;
    State older(config), newer(config);
    append(model, older, part(history, 0, 1));
    append(model, newer, part(history, 1, least));
    CHECK_THROWS(lsif::engine::prepend(model, older.checked(), newer.view()), "newer: expected a state of at least");
  }
}

TEST(what_cannot_follow_is_refused_and_changes_nothing) {
  const ModelConfig config = hstu_config();
  const RandomModel random_model(config);
  State state(config);
  append(*random_model.model, state, {{1}, {1000}, {1}, 0});
  const State before(state);
  const auto refused = [&](const std::vector<int64_t>& times) {
    const std::vector<int64_t> items(times.size(), 2);
    append(*random_model.model, state, {items, times, items, 0});
  };
  CHECK_THROWS(refused({1001, 999}), "times: expected none before the newest event's, 1001, got 999");
  CHECK_THROWS(refused({999}), "times: expected none before the newest event's, 1000, got 999");
  CHECK_THROWS(refused({lsif::kUnknownTime}), "some of each");
  CHECK(state == before);
}

TEST(damaged_states_are_refused) {
  const ModelConfig config = hstu_config();
  const RandomModel random_model(config);
  State state(config);
  oracle::Random random(11);
  append(*random_model.model, state, part(history_of(random, 9, true), 0, 9));
  const auto check = [&](int64_t size) { return lsif::engine::check_state(config, state.bytes(), size).num_seen(); };
  const auto size = static_cast<int64_t>(state.size());
  check(size);
  CHECK_THROWS(check(10), "state: expected a user state, got 10 bytes");
  CHECK_THROWS(check(size - 8), "bytes, got");
  const auto with = [&](int64_t lsif::engine::StateHeader::* field, int64_t value, const char* message) {
    int64_t& place = state.view().header->*field;
    const int64_t kept = place;
    place = value;
    CHECK_THROWS(check(size), message);
    place = kept;
  };
  using Header = lsif::engine::StateHeader;
  with(&Header::num_rows, config.window, "num_rows in [0, 5], got 6");
  with(&Header::num_rows, -1, "num_rows");
  state.view().header->num_events = 3;
  with(&Header::num_rows, 3, "num_rows in [0, 2], got 3");
  state.view().header->num_events = 9;
  with(&Header::num_states, config.short_window, "num_states");
  with(&Header::num_events, -1, "num_events");
  with(&Header::num_events, std::numeric_limits<int64_t>::max(), "num_events");
  with(&Header::num_unknown, -1, "num_unknown");
  with(&Header::num_unknown, std::numeric_limits<int64_t>::max(), "num_unknown");
  with(&Header::remember, 0, "remember");
  with(&Header::remember, kRemember + 1, "bytes, got");
  state.view().header->newest.item = 300;
  CHECK_THROWS(check(size), "an item in [0, 299], got 300");
  state.view().header->newest.item = 0;
  state.view().header->newest.action = 9;
  CHECK_THROWS(check(size), "an action in [0, 3], got 9");
  state.view().header->format[7] = '9';
  CHECK_THROWS(check(size), "a user state of this version");
}

TEST(remembered_items_the_model_does_not_have_are_refused_where_they_are_read) {
  const ModelConfig config = hstu_config();
  const RandomModel random_model(config);
  oracle::Random random(11);
  const State whole(config), damaged(config);
  for (const State* state : {&whole, &damaged}) {
    append(*random_model.model, *state, part(history_of(random, 9, true), 0, 9));
  }
  const auto read = [&] {
    lsif::engine::Scratch scratch;
    return lsif::engine::seen_events(config, std::array{whole.checked(), damaged.checked()}, nullptr, scratch).total;
  };
  CHECK(read() == 18);
  for (const int64_t place : {0, 3, 8}) {
    for (const int64_t item : {int64_t{300}, int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
      const int64_t kept = damaged.view().seen_items[place];
      damaged.view().seen_items[place] = item;
      CHECK_THROWS(read(), "state: expected an item in [0, 299], got " + std::to_string(item));
      damaged.view().seen_items[place] = kept;
    }
  }
  damaged.view().seen_items[9] = 300;  // past the existing events
  CHECK(read() == 18);
}

TEST(states_that_hold_no_numbers_are_refused_when_they_are_used) {
  const ModelConfig config = hstu_config();
  const RandomModel random_model(config);
  const Model& model = *random_model.model;
  oracle::Random random(12);
  const History history = history_of(random, 9, true);
  State sound(config), state(config);
  append(model, sound, history);
  append(model, state, history);
  const auto refused = [&](auto* place) {
    const auto kept = *place;
    *place = std::numeric_limits<std::decay_t<decltype(*place)>>::quiet_NaN();
    CHECK_THROWS(encode_from(model, {&sound, &state}, {history.now, history.now}),
                 "state: expected one of finite interests, got NaN or infinity for user 1");
    *place = kept;
  };
  refused(state.view().numerator);
  refused(state.view().denominator);
  refused(state.view().states);
  refused(state.view().keys_values + config.dim);  // of the first value
  encode_from(model, {&sound, &state}, {history.now, history.now});
}

}  // namespace
