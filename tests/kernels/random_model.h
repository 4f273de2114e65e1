// Small random models and histories, in memory that ends at an unreadable page.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "engine/encode.h"
#include "guarded.h"
#include "oracle.h"
#include "score_topk_data.h"

namespace request_test {

using lsif::engine::Block;
using lsif::engine::ModelConfig;
using lsif::engine::WeightSpec;

inline ModelConfig hstu_config() {
  ModelConfig c;
  c.num_items = 300;
  c.dim = 12;
  c.num_layers = 2;
  c.num_heads = 3;
  c.block = Block::kHstu;
  c.ffn_dim = 1;
  c.window = 6;
  c.num_long = 2;
  c.num_short = 1;
  c.short_window = 4;
  c.pooling_dim = 7;
  c.fusion_dim = 9;
  c.use_times = true;
  c.request_time = true;
  c.num_time_boundaries = 5;
  c.num_actions = 3;
  c.norm_eps = 1e-5f;
  return c;
}

inline ModelConfig transformer_config() {
  ModelConfig c = hstu_config();
  c.dim = 16;
  c.num_layers = 3;
  c.num_heads = 2;
  c.block = Block::kTransformer;
  c.activation = lsif::Activation::kGelu;
  c.ffn_dim = 21;
  c.num_long = 0;
  c.num_short = 0;
  c.use_times = false;
  c.request_time = false;
  c.num_time_boundaries = 0;
  c.num_actions = 0;
  return c;
}

// Both block types, an hstu model with minimal sizes, and a transformer with larger ones.
inline std::vector<ModelConfig> encoder_configs() {
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
  return {hstu_config(), transformer_config(), narrow, wide};
}

class RandomModel {
 public:
  explicit RandomModel(const ModelConfig& c, int threads = 1, const lsif::engine::ModelOptions& options = {})
      : config(c) {
    oracle::Random random(1);
    for (const WeightSpec& spec : lsif::engine::weight_specs(c)) {
      int64_t size = 1;
      for (const int64_t n : spec.shape) size *= n;
      if (spec.is_int64) {
        boundaries_ = std::make_unique<guarded::Array<int64_t>>(size);
        for (int64_t i = 0; i < size; ++i) (*boundaries_)[i] = int64_t{60} << (3 * i);
        data.push_back(boundaries_->data());
        continue;
      }
      weights_.push_back(std::make_unique<guarded::Array<float>>(size));
      guarded::Array<float>& weight = *weights_.back();
      const double scale = spec.shape.size() == 2 ? 1 / std::sqrt(static_cast<double>(spec.shape[1])) : 0.3;
      for (int64_t i = 0; i < size; ++i) weight[i] = random.normal(scale);
      if (spec.name == "long_pooling.decay") {
        for (int64_t i = 0; i < size; ++i) weight[i] = std::fabs(weight[i]);
      }
      data.push_back(weight.data());
    }
    model = std::make_unique<lsif::engine::Model>(c, data, threads, options);
  }

  float* floats(const std::string& name) const {
    const std::vector<WeightSpec> specs = lsif::engine::weight_specs(config);
    const auto is_it = [&](const WeightSpec& spec) { return spec.name == name; };
    const auto place = std::find_if(specs.begin(), specs.end(), is_it) - specs.begin();
    return const_cast<float*>(static_cast<const float*>(data.at(static_cast<size_t>(place))));
  }

  ModelConfig config;
  std::vector<const void*> data;
  std::unique_ptr<const lsif::engine::Model> model;

 private:
  std::vector<std::unique_ptr<guarded::Array<float>>> weights_;
  std::unique_ptr<guarded::Array<int64_t>> boundaries_;
};

struct History {
  std::vector<int64_t> items;
  std::vector<int64_t> times;
  std::vector<int64_t> actions;
  int64_t now;
};

// Times ascend; some are unknown.
inline History random_history(oracle::Random& random, int64_t seq_len) {
  History history{};
  int64_t time = 1700000000;
  for (int64_t j = 0; j < seq_len; ++j) {
    time += random.integer(0, 100000);
    history.items.push_back(random.integer(0, 299));
    history.times.push_back(random.integer(0, 9) == 0 ? lsif::kUnknownTime : time);
    history.actions.push_back(random.integer(0, 3));
  }
  history.now = random.integer(0, 3) == 0 ? lsif::kUnknownTime : time + random.integer(0, 1000000);
  return history;
}

// A ragged batch; each array ends at an unreadable page.
class Batch {
 public:
  explicit Batch(const std::vector<History>& histories)
      : items_(total_of(histories)),
        times_(items_.size()),
        actions_(items_.size()),
        offsets_(static_cast<int64_t>(histories.size()) + 1),
        now_(static_cast<int64_t>(histories.size())) {
    offsets_[0] = 0;
    for (int64_t b = 0; b < now_.size(); ++b) {
      const History& history = histories[b];
      std::copy(history.items.begin(), history.items.end(), items_.data() + offsets_[b]);
      std::copy(history.times.begin(), history.times.end(), times_.data() + offsets_[b]);
      std::copy(history.actions.begin(), history.actions.end(), actions_.data() + offsets_[b]);
      offsets_[b + 1] = offsets_[b] + static_cast<int64_t>(history.items.size());
      now_[b] = history.now;
    }
  }

  lsif::engine::EventBatch events() const {
    return {items_.data(), times_.data(), actions_.data(), offsets_.data(), now_.data(), items_.size(), now_.size()};
  }

 private:
  static int64_t total_of(const std::vector<History>& histories) {
    int64_t total = 0;
    for (const History& history : histories) total += static_cast<int64_t>(history.items.size());
    return total;
  }

  guarded::Array<int64_t> items_, times_, actions_, offsets_, now_;
};

}  // namespace request_test
