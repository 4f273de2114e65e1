// States on the device: appending events one by one gives what encoding the history gives, there and on the CPU.
#include <algorithm>
#include <limits>
#include <numeric>

#include "check.h"
#include "device_model.h"
#include "engine/append.h"
#include "kernels/cuda/user_states.h"

namespace {

using cuda_test::check_near;
using cuda_test::configs;
using cuda_test::Encoding;
using cuda_test::OnDevice;
using device::Array;
using device::expect_success;
using lsif::kUnknownTime;
using request_test::Batch;
using request_test::History;
using request_test::hstu_config;
using request_test::ModelConfig;
using request_test::RandomModel;

// Times do not descend, and are all known or all unknown.
History known_history(oracle::Random& random, int64_t seq_len) {
  History history = request_test::random_history(random, seq_len);
  const bool is_known = random.integer(0, 3) != 0;
  int64_t time = 1700000000;
  for (int64_t& t : history.times) {
    time += random.integer(0, 3) * random.integer(0, 100000);
    t = is_known ? time : kUnknownTime;
  }
  if (is_known && history.now != kUnknownTime) history.now = time + random.integer(0, 1000000);
  return history;
}

History head_of(const History& history, int64_t length) {
  const auto cut = [&](const std::vector<int64_t>& values) {
    return std::vector<int64_t>(values.begin(), values.begin() + length);
  };
  return {cut(history.items), cut(history.times), cut(history.actions), history.now};
}

// The states of all users, in slots that are not in their order.
class DeviceStates {
 public:
  DeviceStates(const OnDevice& device, int64_t num_users)
      : params_(lsif::engine::encoder_params(device.model())),
        slots_(static_cast<size_t>(num_users)),
        states_(num_users * lsif::cuda::device_state_size(params_.shape)) {
    std::iota(slots_.rbegin(), slots_.rend(), 0);
    const Array<int64_t> slots(slots_.data(), num_users);
    expect_success(lsif::cuda::start_states(params_.shape, {states_.data(), slots.data(), num_users}, nullptr));
  }

  // Each of these users' event.
  void append(const std::vector<int64_t>& users, const std::vector<History>& histories, int64_t event, bool is_bare) {
    std::vector<int64_t> slots, items, times, actions;
    for (const int64_t user : users) {
      slots.push_back(slots_[user]);
      items.push_back(histories[user].items[event]);
      times.push_back(histories[user].times[event]);
      actions.push_back(histories[user].actions[event]);
    }
    const auto batch = static_cast<int64_t>(users.size());
    const Array<int64_t> on_slots(slots.data(), batch), on_items(items.data(), batch);
    const Array<int64_t> on_times(is_bare ? nullptr : times.data(), batch);
    const Array<int64_t> on_actions(is_bare ? nullptr : actions.data(), batch);
    expect_success(lsif::cuda::append(params_, {states_.data(), on_slots.data(), batch}, on_items.data(),
                                      on_times.data(), on_actions.data(), nullptr));
  }

  Encoding encode(const std::vector<int64_t>& users, const std::vector<History>& histories, bool is_bare,
                  const ModelConfig& c) const {
    std::vector<int64_t> slots, now;
    for (const int64_t user : users) {
      slots.push_back(slots_[user]);
      now.push_back(histories[user].now);
    }
    const auto batch = static_cast<int64_t>(users.size());
    Encoding result(c, batch);
    const Array<int64_t> on_slots(slots.data(), batch), on_now(is_bare ? nullptr : now.data(), batch);
    const Array<float> fused(batch * c.dim), interests(batch * c.num_interests() * c.dim);
    const Array<float> weights(batch * c.num_interests());
    expect_success(lsif::cuda::encode_states(params_, {states_.data(), on_slots.data(), batch}, on_now.data(),
                                             fused.data(), interests.data(), weights.data(), nullptr));
    fused.copy_to(result.fused.data());
    interests.copy_to(result.interests.data());
    weights.copy_to(result.weights.data());
    return result;
  }

 private:
  lsif::cuda::EncoderParams params_;
  std::vector<int64_t> slots_;
  Array<unsigned char> states_;
};

std::vector<int64_t> all_users(int64_t count) {
  std::vector<int64_t> users(static_cast<size_t>(count));
  std::iota(users.begin(), users.end(), 0);
  return users;
}

lsif::engine::EventBatch without_times(lsif::engine::EventBatch events, bool is_bare) {
  if (is_bare) events.times = events.actions = events.now = nullptr;
  return events;
}

// What the CPU's states give for the histories.
Encoding from_cpu_states(const RandomModel& model, const lsif::engine::EventBatch& events) {
  const ModelConfig& c = model.config;
  const int64_t words = lsif::engine::user_state_size(c, 1) / 8;
  std::vector<int64_t> bytes(events.batch * words);
  std::vector<lsif::engine::UserState> states;
  std::vector<lsif::engine::ConstUserState> finished;
  for (int64_t b = 0; b < events.batch; ++b) {
    auto* data = reinterpret_cast<std::byte*>(bytes.data() + b * words);
    lsif::engine::start_state(c, {}, 1, data);
    states.emplace_back(c, 1, data);
    finished.emplace_back(c, 1, data);
  }
  lsif::engine::append(*model.model, states, events, 1);
  Encoding out(c, events.batch);
  lsif::engine::encode_states(*model.model, finished, events.now, 1,
                              {out.fused.data(), out.interests.data(), out.weights.data()});
  return out;
}

// Of interest `interest` of all users.
bool same_interest(const Encoding& a, const Encoding& b, const ModelConfig& c, int64_t interest) {
  for (size_t user = 0; user * c.num_interests() * c.dim < a.interests.size(); ++user) {
    const auto first = static_cast<std::ptrdiff_t>((user * c.num_interests() + interest) * c.dim);
    if (!std::equal(a.interests.begin() + first, a.interests.begin() + first + c.dim, b.interests.begin() + first)) {
      return false;
    }
  }
  return true;
}

void check_appending(const ModelConfig& c, bool is_bare) {
  const RandomModel model(c);
  const OnDevice device(model);
  oracle::Random random(5);
  std::vector<History> histories;
  int64_t longest = 0;
  for (const int64_t seq_len : {int64_t{0}, int64_t{1}, int64_t{2}, c.window, c.window + 1, c.short_window + 3,
                                c.window + c.short_window + 2}) {
    histories.push_back(known_history(random, seq_len));
    longest = std::max(longest, seq_len);
  }
  const auto num_users = static_cast<int64_t>(histories.size());
  DeviceStates states(device, num_users);
  for (int64_t event = 0; event < longest; ++event) {
    std::vector<int64_t> users;
    for (const int64_t user : all_users(num_users)) {
      if (event < static_cast<int64_t>(histories[user].items.size())) users.push_back(user);
    }
    states.append(users, histories, event, is_bare);
    if (event % 7 != 0 && event + 1 != longest) continue;
    std::vector<History> so_far;
    for (const History& history : histories) {
      so_far.push_back(head_of(history, std::min(event + 1, static_cast<int64_t>(history.items.size()))));
    }
    const Batch batch(so_far);
    const Encoding result = states.encode(all_users(num_users), histories, is_bare, c);
    const lsif::engine::EventBatch events = without_times(batch.events(), is_bare);
    const Encoding whole = device.encode(events);
    check_near(result, whole);
    for (int64_t a = c.num_long; a < c.num_interests(); ++a) CHECK(same_interest(result, whole, c, a));
    check_near(result, from_cpu_states(model, events));
  }
}

TEST(appending_gives_what_encoding_the_history_gives) {
  for (const ModelConfig& c : configs()) {
    if (c.window < 40) check_appending(c, false);
  }
}

TEST(so_it_does_without_times_and_in_a_long_window) {
  check_appending(hstu_config(), true);
  for (const ModelConfig& c : configs()) {
    if (c.window == 40) check_appending(c, false);
  }
}

// Whether the user's part of `all` is the encoding of that user alone.
bool has_user(const Encoding& all, int64_t user, const Encoding& alone) {
  const auto has = [user](const std::vector<float>& values, const std::vector<float>& own) {
    return std::equal(own.begin(), own.end(), values.begin() + user * static_cast<std::ptrdiff_t>(own.size()));
  };
  return has(all.fused, alone.fused) && has(all.interests, alone.interests) && has(all.weights, alone.weights);
}

// So many that some share a block of threads, and the last block has fewer.
TEST(a_user_depends_on_no_other) {
  const ModelConfig c = hstu_config();
  const RandomModel model(c);
  const OnDevice device(model);
  oracle::Random random(6);
  constexpr int64_t kUsers = 128 * 2 + 5;
  constexpr int64_t kEvents = 4;
  std::vector<History> histories;
  for (int64_t user = 0; user < kUsers; ++user) histories.push_back(known_history(random, kEvents));
  DeviceStates together(device, kUsers);
  DeviceStates alone(device, kUsers);
  const std::vector<int64_t> some = {0, 1, 2, 127, 128, 255, 256, kUsers - 1};  // a launch each time, for each
  for (int64_t event = 0; event < kEvents; ++event) {
    together.append(all_users(kUsers), histories, event, false);
    for (const int64_t user : some) alone.append({user}, histories, event, false);
  }
  const Encoding all = together.encode(all_users(kUsers), histories, false, c);
  for (const int64_t user : some) {
    CHECK(has_user(all, user, alone.encode({user}, histories, false, c)));
  }
  const Encoding again = together.encode(all_users(kUsers), histories, false, c);  // nothing has changed
  CHECK(all.fused == again.fused && all.interests == again.interests && all.weights == again.weights);
  together.append({}, histories, 0, false);
}

// Of finite weights: attention's dot products lower the lowest finite bias, and pooling's products overflow.
void make_all_logits_minus_infinity(const RandomModel& model) {
  const ModelConfig& c = model.config;
  for (int64_t l = 0; l < c.num_layers; ++l) {
    const std::string layer = "layers." + std::to_string(l) + ".";
    float* bias = model.floats(layer + "input.bias");
    std::fill_n(bias, c.dim, 1e16f);
    std::fill_n(bias + c.dim, c.dim, -1e16f);
    std::fill_n(model.floats(layer + "position_bias"), c.num_heads * c.window, std::numeric_limits<float>::lowest());
  }
  std::fill_n(model.floats("long_pooling.hidden.bias"), c.pooling_dim, 1e30f);
  std::fill_n(model.floats("long_pooling.logits.weight"), c.num_long * c.pooling_dim, -1e10f);
}

TEST(all_ways_agree_where_all_logits_are_minus_infinity) {
  ModelConfig c = request_test::transformer_config();
  c.num_long = 2;
  const RandomModel model(c);
  make_all_logits_minus_infinity(model);
  const OnDevice device(model);
  oracle::Random random(7);
  const std::vector<History> histories = {known_history(random, 8)};
  DeviceStates states(device, 1);
  for (int64_t event = 0; event < 8; ++event) states.append({0}, histories, event, true);
  const Batch batch(histories);
  const lsif::engine::EventBatch events = without_times(batch.events(), true);
  const Encoding steps = device.encode(events, false);
  for (const float x : steps.fused) CHECK(std::isfinite(x));
  check_near(device.encode(events), steps);
  check_near(states.encode({0}, histories, true, c), steps);
}

TEST(models_that_do_not_fit_are_refused) {
  ModelConfig c = hstu_config();
  CHECK(lsif::cuda::user_states_fit(lsif::engine::encoder_shape(c)));
  c.pooling_dim = 4096;  // poolings of encode_users may lie in its workspace, those of states in shared memory alone
  CHECK(lsif::cuda::encode_users_fits(lsif::engine::encoder_shape(c)));
  CHECK(!lsif::cuda::user_states_fit(lsif::engine::encoder_shape(c)));
  c.dim = lsif::cuda::kMostEncoderDim + 1;
  lsif::cuda::EncoderParams params = {};
  params.shape = lsif::engine::encoder_shape(c);
  CHECK(!lsif::cuda::user_states_fit(params.shape));
  CHECK(lsif::cuda::append(params, {}, nullptr, nullptr, nullptr, nullptr) == cudaErrorInvalidValue);
  CHECK(lsif::cuda::encode_states(params, {}, nullptr, nullptr, nullptr, nullptr, nullptr) == cudaErrorInvalidValue);
}

}  // namespace
