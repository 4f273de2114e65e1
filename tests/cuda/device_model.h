// A model whose numbers are on the device, and what it makes of histories.
#pragma once

#include <cmath>
#include <memory>
#include <vector>

#include "check.h"
#include "device_array.h"
#include "engine/cuda_encode.h"
#include "random_model.h"

namespace cuda_test {

using device::Array;
using device::expect_success;
using lsif::engine::EventBatch;
using lsif::engine::Precision;
using request_test::encoder_configs;
using request_test::hstu_config;
using request_test::ModelConfig;
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
  explicit OnDevice(const RandomModel& host, Precision precision = Precision::kFloat32)
      : packed_(lsif::engine::device_model_size(host.config, precision)) {
    const std::vector<lsif::engine::WeightSpec> specs = lsif::engine::weight_specs(host.config);
    std::vector<const void*> data;
    for (size_t i = 0; i < specs.size(); ++i) {
      int64_t size = specs[i].is_int64 ? 8 : 4;
      for (const int64_t n : specs[i].shape) size *= n;
      weights_.push_back(std::make_unique<Array<char>>(static_cast<const char*>(host.data[i]), size));
      data.push_back(weights_.back()->data());
    }
    expect_success(lsif::engine::make_device_model(host.config, data, packed_.data(), nullptr, model_, precision));
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

  const lsif::engine::DeviceModel& model() const { return model_; }

 private:
  std::vector<std::unique_ptr<Array<char>>> weights_;
  Array<float> packed_;
  lsif::engine::DeviceModel model_;
};

// Those of the CPU's tests and what matters on a GPU.
inline std::vector<ModelConfig> configs() {
  std::vector<ModelConfig> all = encoder_configs();
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
  all.insert(all.end(), {odd, usual, widest});
  return all;
}

// The same formulas in another order of float32 sums, through a few layers. Not derived: 20 times what the emulation is
// off by. Each kernel is held to a derived bound by its own test.
inline void check_near(const std::vector<float>& result, const std::vector<float>& expected) {
  float largest = 0;
  for (const float x : expected) largest = std::fmax(largest, std::fabs(x));
  for (size_t i = 0; i < expected.size(); ++i) CHECK_NEAR(result[i], expected[i], 5e-6 * static_cast<double>(largest));
}

inline void check_near(const Encoding& result, const Encoding& expected) {
  check_near(result.fused, expected.fused);
  check_near(result.interests, expected.interests);
  check_near(result.weights, expected.weights);
}

inline Encoding on_cpu(const RandomModel& model, const EventBatch& events) {
  Encoding out(model.config, events.batch);
  lsif::engine::encode(*model.model, events, 1, {out.fused.data(), out.interests.data(), out.weights.data()});
  return out;
}

}  // namespace cuda_test
