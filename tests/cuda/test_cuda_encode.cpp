// From events to interests on the CUDA kernels, beside the CPU's engine; and the same bits in any batch.
#include <algorithm>
#include <cmath>
#include <vector>

#include "check.h"
#include "device_array.h"
#include "engine/cuda_encode.h"
#include "random_model.h"

namespace {

using device::Array;
using device::expect_success;
using lsif::engine::EventBatch;
using request_test::Batch;
using request_test::encoder_configs;
using request_test::History;
using request_test::ModelConfig;
using request_test::random_history;
using request_test::RandomModel;

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

  Encoding encode(const EventBatch& events) const {
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
                                        {fused.data(), interests.data(), weights.data()}, nullptr));
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

// The same formulas in another order of float32 sums, through a few layers. Not derived: 20 times what the emulation is
// off by. Each kernel is held to a derived bound by its own test.
void check_near(const std::vector<float>& result, const std::vector<float>& expected) {
  float largest = 0;
  for (const float x : expected) largest = std::fmax(largest, std::fabs(x));
  for (size_t i = 0; i < expected.size(); ++i) CHECK_NEAR(result[i], expected[i], 5e-6 * static_cast<double>(largest));
}

TEST(encode_agrees_with_the_cpu_and_does_not_depend_on_the_batch) {
  for (const ModelConfig& c : encoder_configs()) {
    const RandomModel model(c);
    const OnDevice device(model);
    oracle::Random random(2);
    std::vector<History> histories;
    for (const int64_t seq_len : {int64_t{0}, int64_t{1}, c.window, c.window + 1, c.short_window + 1, int64_t{90}}) {
      histories.push_back(random_history(random, seq_len));
    }
    const Batch batch(histories);
    Encoding expected(c, batch.events().batch);
    lsif::engine::encode(*model.model, batch.events(), 1,
                         {expected.fused.data(), expected.interests.data(), expected.weights.data()});
    const Encoding all = device.encode(batch.events());
    check_near(all.fused, expected.fused);
    check_near(all.interests, expected.interests);
    check_near(all.weights, expected.weights);
    for (size_t b = 0; b < histories.size(); ++b) {
      const Batch alone(std::vector{histories[b]});
      const Encoding one = device.encode(alone.events());
      const auto has = [&](const std::vector<float>& part, const std::vector<float>& whole) {
        return std::equal(part.begin(), part.end(), whole.begin() + static_cast<std::ptrdiff_t>(b * part.size()));
      };
      CHECK(has(one.fused, all.fused) && has(one.interests, all.interests) && has(one.weights, all.weights));
    }
    EventBatch bare = batch.events();  // neither times nor actions
    bare.times = bare.actions = bare.now = nullptr;
    lsif::engine::encode(*model.model, bare, 1,
                         {expected.fused.data(), expected.interests.data(), expected.weights.data()});
    const Encoding without = device.encode(bare);
    check_near(without.fused, expected.fused);
    check_near(without.interests, expected.interests);
    check_near(without.weights, expected.weights);
    CHECK(device.encode(Batch(std::vector<History>()).events()).fused.empty());
  }
}

}  // namespace
