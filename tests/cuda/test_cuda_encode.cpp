// From events to interests on the CUDA kernels, beside the CPU's engine; and the same bits in any batch.
#include <algorithm>
#include <cmath>
#include <vector>

#include "check.h"
#include "device_model.h"
#include "engine/cuda_encode.h"
#include "kernels/cuda/encode_users.h"
#include "random_model.h"

namespace {

using cuda_test::check_near;
using cuda_test::configs;
using cuda_test::Encoding;
using cuda_test::on_cpu;
using cuda_test::OnDevice;
using lsif::engine::EventBatch;
using lsif::engine::Precision;
using request_test::Batch;
using request_test::History;
using request_test::hstu_config;
using request_test::ModelConfig;
using request_test::random_history;
using request_test::RandomModel;
using request_test::transformer_config;

bool is_same(const Encoding& a, const Encoding& b) {
  return a.fused == b.fused && a.interests == b.interests && a.weights == b.weights;
}

std::vector<History> histories_for(const ModelConfig& c) {
  oracle::Random random(2);
  std::vector<History> histories;
  for (const int64_t seq_len : {int64_t{0}, int64_t{1}, c.window, c.window + 1, c.short_window + 1, int64_t{90}}) {
    histories.push_back(random_history(random, seq_len));
  }
  return histories;
}

void check_encode(const ModelConfig& c, bool may_fuse) {
  const RandomModel model(c);
  const OnDevice device(model);
  const std::vector<History> histories = histories_for(c);
  const Batch batch(histories);
  const Encoding all = device.encode(batch.events(), may_fuse);
  check_near(all, on_cpu(model, batch.events()));
  for (size_t b = 0; b < histories.size(); ++b) {
    const Batch alone(std::vector{histories[b]});
    const Encoding one = device.encode(alone.events(), may_fuse);
    const auto has = [&](const std::vector<float>& part, const std::vector<float>& whole) {
      return std::equal(part.begin(), part.end(), whole.begin() + static_cast<std::ptrdiff_t>(b * part.size()));
    };
    CHECK(has(one.fused, all.fused) && has(one.interests, all.interests) && has(one.weights, all.weights));
  }
  EventBatch bare = batch.events();  // neither times nor actions
  bare.times = bare.actions = bare.now = nullptr;
  check_near(device.encode(bare, may_fuse), on_cpu(model, bare));
  CHECK(device.encode(Batch(std::vector<History>()).events(), may_fuse).fused.empty());
}

TEST(encode_agrees_with_the_cpu_and_does_not_depend_on_the_batch) {
  for (const ModelConfig& c : configs()) check_encode(c, true);
}

TEST(so_does_encode_by_one_launch_for_each_step) {
  for (const ModelConfig& c : configs()) check_encode(c, false);
}

TEST(what_is_too_large_for_one_block_takes_the_steps) {
  const auto is_fused = [](auto change) {
    ModelConfig c = hstu_config();
    change(c);
    const RandomModel model(c);
    const OnDevice device(model);
    const Batch batch(histories_for(c));
    const Encoding steps = device.encode(batch.events(), false);
    const Encoding any = device.encode(batch.events(), true);
    check_near(any, steps);
    return !is_same(any, steps);  // other sums round otherwise
  };
  CHECK(is_fused([](ModelConfig&) {}));
  CHECK(!is_fused([](ModelConfig& c) { c.dim = lsif::cuda::kMostEncoderDim + 1; }));
  CHECK(!is_fused([](ModelConfig& c) { c.num_layers = lsif::cuda::kMostEncoderLayers + 1; }));
  CHECK(!is_fused([](ModelConfig& c) { c.window = lsif::cuda::kMostEncoderWindow + 1; }));
  ModelConfig wide = hstu_config();
  wide.dim = lsif::cuda::kMostEncoderDim + 1;
  CHECK(lsif::cuda::encode_users_workspace_size(lsif::engine::encoder_shape(wide), 1 << 20, 12) == 0);
}

// How far b is from a, by the length of a.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double squared = 0;
  double length = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    squared += std::pow(static_cast<double>(a[i]) - b[i], 2);
    length += std::pow(static_cast<double>(a[i]), 2);
  }
  return std::sqrt(squared / length);
}

// The bounds are those of test_encode.cpp for the CPU.
TEST(bfloat16_is_near_float32_and_near_the_cpu) {
  for (const ModelConfig& c : configs()) {
    const RandomModel exact(c);
    const RandomModel rounded(c, 1, {0, Precision::kBfloat16});
    const OnDevice device(exact, Precision::kBfloat16);
    const Batch batch(histories_for(c));
    const Encoding all = device.encode(batch.events());
    const double lost = distance(on_cpu(exact, batch.events()).interests, all.interests);
    CHECK(lost > 1e-4);
    CHECK(lost < 2e-2);
    CHECK(distance(on_cpu(rounded, batch.events()).interests, all.interests) < 2e-2);
    const Batch newest(std::vector{histories_for(c).back()});
    const Encoding alone = device.encode(newest.events());
    CHECK(std::equal(alone.interests.rbegin(), alone.interests.rend(), all.interests.rbegin()));
  }
}

// By the number of processors and of users: two blocks a processor, one, clusters of 2, 3, 5 and 8 blocks.
TEST(how_many_blocks_a_user_has_changes_no_bit) {
  std::vector<ModelConfig> all = configs();
  for (const int64_t num_long : {0, 2}) {
    ModelConfig deep = transformer_config();
    deep.num_layers = lsif::cuda::kMostEncoderLayers;
    deep.num_long = num_long;
    all.push_back(deep);
  }
  for (ModelConfig& c : all) {
    if (c.dim % 16 != 0) c.dim = 48;  // others have one block
    const RandomModel model(c);
    const OnDevice device(model);
    std::vector<History> histories = histories_for(c);
    oracle::Random random(5);
    histories.push_back(random_history(random, 300));
    const Encoding expected = device.encode(Batch(histories).events());
    check_near(expected, on_cpu(model, Batch(histories).events()));
#if defined(LSIF_CUDA_EMULATED)
    const int before = emulated::num_processors;
    for (const int processors : {8, 19, 28, 47, 75}) {
      emulated::num_processors = processors;
      CHECK(is_same(device.encode(Batch(histories).events()), expected));
    }
    emulated::num_processors = before;
#else
    std::vector<History> copies;
    for (const size_t count : {1, 2, 3, 6, 13, 30}) {
      while (copies.size() < count * histories.size()) copies.push_back(histories[copies.size() % histories.size()]);
      const Encoding of_copies = device.encode(Batch(copies).events());
      const auto repeats = [](const std::vector<float>& whole, const std::vector<float>& part) {
        for (size_t i = 0; i < whole.size(); ++i) {
          if (whole[i] != part[i % part.size()]) return false;
        }
        return true;
      };
      CHECK(repeats(of_copies.fused, expected.fused) && repeats(of_copies.interests, expected.interests));
      CHECK(repeats(of_copies.weights, expected.weights));
    }
#endif
  }
}

// The kernel counts places in a user's rows by int.
TEST(shapes_of_more_numbers_than_int_has_take_the_launchers) {
  auto shape = lsif::engine::encoder_shape(request_test::transformer_config());
  shape.num_short = 1;
  shape.ffn_dim = 4096;
  shape.short_window = 1000;
  CHECK(lsif::cuda::encode_users_fits(shape));
  shape.short_window = 600'000;
  CHECK(!lsif::cuda::encode_users_fits(shape));
}

#if defined(LSIF_CUDA_EMULATED)
// From room for little more than scratch and scores to room for everything.
TEST(where_activations_lie_changes_no_bit) {
  const int most = emulated::shared_memory_limit;
  for (const ModelConfig& c : configs()) {
    const RandomModel model(c);
    const OnDevice device(model);
    const Batch batch(histories_for(c));
    const Encoding expected = device.encode(batch.events());
    const auto shape = lsif::engine::encoder_shape(c);
    for (const int limit : {16, 18, 20, 24, 32, 48, 64, 96, 128, 160}) {
      emulated::shared_memory_limit = limit << 10;
      CHECK(lsif::cuda::encode_users_fits(shape));
      CHECK(is_same(device.encode(batch.events()), expected));
      emulated::num_processors = 64;  // clusters
      CHECK(is_same(device.encode(batch.events()), expected));
      emulated::num_processors = 2;
    }
    emulated::shared_memory_limit = 8 << 10;  // not even for these
    CHECK(!lsif::cuda::encode_users_fits(shape));
    check_near(device.encode(batch.events()), expected);
    emulated::shared_memory_limit = most;
  }
}
#endif

}  // namespace
