// From events to interests on the CUDA kernels, beside the CPU's engine; and the same bits in any batch.
#include <algorithm>
#include <cmath>
#include <vector>

#include "check.h"
#include "device_array.h"
#include "engine/cuda_encode.h"
#include "kernels/cuda/encode_users.h"
#include "random_model.h"

namespace {

using device::Array;
using device::expect_success;
using lsif::engine::EventBatch;
using request_test::Batch;
using request_test::History;
using request_test::hstu_config;
using request_test::ModelConfig;
using request_test::random_history;
using request_test::RandomModel;
using request_test::transformer_config;

struct Encoding {
  Encoding(const ModelConfig& c, int64_t batch)
      : fused(batch * c.dim), interests(batch * c.num_interests() * c.dim), weights(batch * c.num_interests()) {}

  std::vector<float> fused;
  std::vector<float> interests;
  std::vector<float> weights;
};

// A model's numbers on the device.
class OnDevice {
 public:
  explicit OnDevice(const RandomModel& host) : packed_(lsif::engine::device_model_size(host.config)) {
    const std::vector<lsif::engine::WeightSpec> specs = lsif::engine::weight_specs(host.config);
    std::vector<const void*> data;
    for (size_t i = 0; i < specs.size(); ++i) {
      int64_t size = specs[i].is_int64 ? 8 : 4;
      for (const int64_t n : specs[i].shape) size *= n;
      weights_.push_back(std::make_unique<Array<char>>(static_cast<const char*>(host.data[i]), size));
      data.push_back(weights_.back()->data());
    }
    expect_success(lsif::engine::make_device_model(host.config, data, packed_.data(), nullptr, model_));
  }

  Encoding encode(const EventBatch& events, bool may_fuse = true) const {
    const ModelConfig& c = model_.config;
    const Array<int64_t> items(events.items, events.total);
    const Array<int64_t> times(events.times, events.total);
    const Array<int64_t> actions(events.actions, events.total);
    const Array<int64_t> offsets(events.offsets, events.batch + 1);
    const Array<int64_t> now(events.now, events.batch);
    Encoding result(c, events.batch);
    const Array<float> fused(static_cast<int64_t>(result.fused.size()));
    const Array<float> interests(static_cast<int64_t>(result.interests.size()));
    const Array<float> weights(static_cast<int64_t>(result.weights.size()));
    const Array<char> workspace(lsif::engine::encode_workspace_size(c, events.total, events.batch));
    const EventBatch on_device = {items.data(), times.data(), actions.data(), offsets.data(),
                                  now.data(),   events.total, events.batch};
    expect_success(lsif::engine::encode(model_, on_device, workspace.data(),
                                        {fused.data(), interests.data(), weights.data()}, nullptr, may_fuse));
    fused.copy_to(result.fused.data());
    interests.copy_to(result.interests.data());
    weights.copy_to(result.weights.data());
    return result;
  }

 private:
  std::vector<std::unique_ptr<Array<char>>> weights_;
  Array<float> packed_;
  lsif::engine::DeviceModel model_;
};

std::vector<ModelConfig> configs() {
  ModelConfig narrow = hstu_config();
  narrow.num_layers = 1;
  narrow.window = 1;
  narrow.short_window = 1;
  ModelConfig wide = transformer_config();
  wide.window = 40;
  wide.num_long = 3;
  wide.num_short = 2;
  wide.short_window = 70;
  wide.use_times = true;
  wide.num_time_boundaries = 3;
  ModelConfig odd = hstu_config();  // neither rows nor heads are multiples of 16 bytes
  odd.dim = 33;
  odd.pooling_dim = 70;
  ModelConfig usual = hstu_config();  // the shape of a real model
  usual.dim = 64;
  usual.num_heads = 2;
  usual.window = 50;
  usual.num_long = 4;
  usual.num_short = 2;
  usual.short_window = 10;
  usual.pooling_dim = 64;
  usual.fusion_dim = 64;
  ModelConfig widest = transformer_config();
  widest.dim = lsif::cuda::kMostEncoderDim;
  widest.num_heads = 4;
  widest.ffn_dim = 300;
  return {hstu_config(), transformer_config(), narrow, wide, odd, usual, widest};
}

// The same formulas in another order of float32 sums, through a few layers. Not derived: 20 times what the emulation is
// off by. Each kernel is held to a derived bound by its own test.
void check_near(const std::vector<float>& result, const std::vector<float>& expected) {
  float largest = 0;
  for (const float x : expected) largest = std::fmax(largest, std::fabs(x));
  for (size_t i = 0; i < expected.size(); ++i) CHECK_NEAR(result[i], expected[i], 5e-6 * static_cast<double>(largest));
}

void check_near(const Encoding& result, const Encoding& expected) {
  check_near(result.fused, expected.fused);
  check_near(result.interests, expected.interests);
  check_near(result.weights, expected.weights);
}

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

Encoding on_cpu(const RandomModel& model, const EventBatch& events) {
  Encoding out(model.config, events.batch);
  lsif::engine::encode(*model.model, events, 1, {out.fused.data(), out.interests.data(), out.weights.data()});
  return out;
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
}

#if defined(LSIF_CUDA_EMULATED)
// From room for nothing but stages and scores to room for everything.
TEST(where_activations_lie_changes_no_bit) {
  const int most = emulated::shared_memory_limit;
  for (const ModelConfig& c : configs()) {
    const RandomModel model(c);
    const OnDevice device(model);
    const Batch batch(histories_for(c));
    const Encoding expected = device.encode(batch.events());
    for (const int limit : {64, 66, 68, 72, 80, 96, 128, 160}) {
      emulated::shared_memory_limit = limit << 10;
      CHECK(is_same(device.encode(batch.events()), expected));
    }
    emulated::shared_memory_limit = 16 << 10;  // not even for these
    check_near(device.encode(batch.events()), expected);
    emulated::shared_memory_limit = most;
  }
}
#endif

}  // namespace
