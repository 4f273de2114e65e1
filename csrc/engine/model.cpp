#include "engine/model.h"

#include <cmath>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <unordered_map>

#include "engine/float_rows.h"

namespace lsif::engine {
namespace {

void require(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument(message);
}

void check_config(const ModelConfig& c) {
  const auto at_least = [](const char* name, int64_t value, int64_t least) {
    require(value >= least,
            std::string(name) + ": expected an integer >= " + std::to_string(least) + ", got " + std::to_string(value));
  };
  at_least("num_items", c.num_items, 1);
  at_least("dim", c.dim, 1);
  at_least("num_layers", c.num_layers, 1);
  at_least("num_heads", c.num_heads, 1);
  at_least("ffn_dim", c.ffn_dim, 1);
  at_least("window", c.window, 1);
  at_least("num_long", c.num_long, 0);
  at_least("num_short", c.num_short, 0);
  at_least("short_window", c.short_window, 1);
  at_least("pooling_dim", c.pooling_dim, 1);
  at_least("fusion_dim", c.fusion_dim, 1);
  at_least("num_time_boundaries", c.num_time_boundaries, c.use_times ? 1 : 0);
  at_least("num_actions", c.num_actions, 0);
  require(c.dim % c.num_heads == 0,
          "num_heads: expected a divisor of dim = " + std::to_string(c.dim) + ", got " + std::to_string(c.num_heads));
  require(c.norm_eps > 0 && std::isfinite(c.norm_eps),
          "norm_eps: expected a finite number > 0, got " + std::to_string(c.norm_eps));
  require(c.use_times || !c.request_time, "request_time: expected False when use_times is False, got True");
}

int64_t num_values(const WeightSpec& spec) {
  int64_t n = 1;
  for (const int64_t size : spec.shape) n *= size;
  return n;
}

void check_weight(const WeightSpec& spec, const void* data, int threads) {
  require(data != nullptr, spec.name + ": expected a tensor, got none");
  const int64_t n = num_values(spec);
  if (spec.is_int64) {
    const auto* values = static_cast<const int64_t*>(data);
    for (int64_t i = 0; i < n; ++i) {
      if (values[i] >= 1 && (i == 0 || values[i] > values[i - 1])) continue;
      require(false, spec.name + ": expected strictly increasing values >= 1, got " + std::to_string(values[i]) +
                         " at position " + std::to_string(i));
    }
    return;
  }
  const int64_t bad = check_finite(static_cast<const float*>(data), n, 1, threads);
  require(bad < 0, spec.name + ": expected finite values, got NaN or infinity at position " + std::to_string(bad));
}

using Shape = std::vector<int64_t>;

class SpecList {
 public:
  void tensor(const std::string& name, Shape shape, bool is_int64 = false) {
    specs.push_back({name, std::move(shape), is_int64});
  }
  void linear(const std::string& name, int64_t in_dim, int64_t out_dim) {
    tensor(name + ".weight", {out_dim, in_dim});
    tensor(name + ".bias", {out_dim});
  }
  void norm(const std::string& name, int64_t dim) {
    tensor(name + ".weight", {dim});
    tensor(name + ".bias", {dim});
  }
  std::vector<WeightSpec> specs;
};

void layer_specs(const ModelConfig& c, const std::string& prefix, SpecList& list) {
  list.norm(prefix + "norm", c.dim);
  list.linear(prefix + "input", c.dim, (c.block == Block::kHstu ? 4 : 3) * c.dim);
  list.tensor(prefix + "position_bias", {c.num_heads, c.window});
  if (c.use_times) list.tensor(prefix + "time_bias", {c.num_heads, c.num_time_boundaries + 2});
  if (c.block == Block::kHstu) list.norm(prefix + "output_norm", c.dim);
  list.linear(prefix + "output", c.dim, c.dim);
  if (c.block == Block::kTransformer) {
    list.norm(prefix + "ffn_norm", c.dim);
    list.linear(prefix + "ffn_up", c.dim, c.ffn_dim);
    list.linear(prefix + "ffn_down", c.ffn_dim, c.dim);
  }
}

}  // namespace

std::vector<int64_t> ModelConfig::to_ints() const {
  return {num_items,
          dim,
          num_layers,
          num_heads,
          static_cast<int64_t>(block),
          static_cast<int64_t>(activation),
          ffn_dim,
          window,
          num_long,
          num_short,
          short_window,
          pooling_dim,
          fusion_dim,
          use_times,
          request_time,
          num_time_boundaries,
          num_actions,
          repeats};
}

ModelConfig ModelConfig::from_ints(const std::vector<int64_t>& values, float norm_eps) {
  ModelConfig c;
  const size_t expected = c.to_ints().size();
  require(values.size() == expected,
          "config: expected " + std::to_string(expected) + " integers, got " + std::to_string(values.size()));
  const int64_t* v = values.data();
  c.num_items = *v++;
  c.dim = *v++;
  c.num_layers = *v++;
  c.num_heads = *v++;
  require(*v == 0 || *v == 1, "block: expected 0 (hstu) or 1 (transformer), got " + std::to_string(*v));
  c.block = static_cast<Block>(*v++);
  require(*v >= 0 && *v <= 3, "activation: expected 0 to 3, got " + std::to_string(*v));
  c.activation = static_cast<Activation>(*v++);
  c.ffn_dim = *v++;
  c.window = *v++;
  c.num_long = *v++;
  c.num_short = *v++;
  c.short_window = *v++;
  c.pooling_dim = *v++;
  c.fusion_dim = *v++;
  c.use_times = *v++ != 0;
  c.request_time = *v++ != 0;
  c.num_time_boundaries = *v++;
  c.num_actions = *v++;
  c.repeats = *v++ != 0;
  c.norm_eps = norm_eps;
  check_config(c);
  return c;
}

std::vector<WeightSpec> weight_specs(const ModelConfig& config) {
  check_config(config);
  SpecList list;
  list.tensor("item_embedding", {config.num_items, config.dim});
  if (config.num_actions > 0) list.tensor("action_embedding", {config.num_actions + 1, config.dim});
  if (config.use_times) list.tensor("time_boundaries", {config.num_time_boundaries}, true);
  for (int64_t l = 0; l < config.num_layers; ++l) layer_specs(config, "layers." + std::to_string(l) + ".", list);
  list.norm("norm", config.dim);
  if (config.num_long > 0) {
    list.linear("long_pooling.hidden", config.dim, config.pooling_dim);
    list.tensor("long_pooling.logits.weight", {config.num_long, config.pooling_dim});
    list.tensor("long_pooling.decay", {config.num_long});
    list.tensor("long_pooling.value.weight", {config.dim, config.dim});
  }
  if (config.num_short > 0) {
    list.linear("short_pooling.hidden", config.dim, config.pooling_dim);
    list.tensor("short_pooling.logits.weight", {config.num_short, config.pooling_dim});
  }
  if (config.repeats) {
    list.linear("repeats.gate", config.dim, 1);
    list.tensor("repeats.distance", {kNumDistances});
    if (config.use_times) {
      list.tensor("repeats.age", {config.num_time_boundaries + 2});
      list.tensor("repeats.phase", {kHoursPerWeek + 1});
    }
  }
  list.linear("fusion.hidden", config.num_interests() * config.dim + kFusionContext, config.fusion_dim);
  list.linear("fusion.logits", config.fusion_dim, config.num_interests());
  return list.specs;
}

void Model::AlignedDeleter::operator()(float* p) const { ::operator delete[](p, std::align_val_t(64)); }

const float* Model::pack(const float* weight, int64_t in_dim, int64_t out_dim) {
  const size_t size = static_cast<size_t>(packed_linear_size(in_dim, out_dim));
  packed_.emplace_back(static_cast<float*>(::operator new[](size * sizeof(float), std::align_val_t(64))));
  pack_linear(weight, in_dim, out_dim, packed_.back().get());
  return packed_.back().get();
}

Model::Model(const ModelConfig& config, const std::vector<const void*>& data, int threads) : config_(config) {
  const std::vector<WeightSpec> specs = weight_specs(config);
  require(data.size() == specs.size(),
          "weights: expected " + std::to_string(specs.size()) + " tensors, got " + std::to_string(data.size()));
  std::unordered_map<std::string, const float*> floats;
  const int64_t* boundaries = nullptr;
  for (size_t i = 0; i < specs.size(); ++i) {
    check_weight(specs[i], data[i], threads);
    if (specs[i].is_int64) boundaries = static_cast<const int64_t*>(data[i]);
    floats[specs[i].name] = static_cast<const float*>(data[i]);
  }
  const auto optional = [&](const std::string& name) {
    const auto it = floats.find(name);
    return it == floats.end() ? nullptr : it->second;
  };
  const auto linear = [&](const std::string& name, int64_t in_dim, int64_t out_dim, Activation activation) {
    return LinearParams{pack(floats.at(name + ".weight"), in_dim, out_dim), optional(name + ".bias"), in_dim, out_dim,
                        activation};
  };
  const auto norm = [&](const std::string& name) {
    return LayerNormParams{floats.at(name + ".weight"), floats.at(name + ".bias"), config.dim, config.norm_eps};
  };

  const bool hstu = config.block == Block::kHstu;
  embedding_ = {floats.at("item_embedding"), optional("action_embedding"), config.dim};
  for (int64_t l = 0; l < config.num_layers; ++l) {
    const std::string prefix = "layers." + std::to_string(l) + ".";
    Layer layer{};
    layer.norm = norm(prefix + "norm");
    layer.input = linear(prefix + "input", config.dim, (hstu ? 4 : 3) * config.dim,
                         hstu ? Activation::kSilu : Activation::kIdentity);
    layer.attention = {hstu ? AttentionKind::kSilu : AttentionKind::kSoftmax,
                       config.num_heads,
                       config.head_dim(),
                       config.window,
                       floats.at(prefix + "position_bias"),
                       optional(prefix + "time_bias"),
                       boundaries,
                       config.num_time_boundaries};
    if (hstu) layer.output_norm = norm(prefix + "output_norm");
    layer.output = linear(prefix + "output", config.dim, config.dim, Activation::kIdentity);
    if (!hstu) {
      layer.ffn_norm = norm(prefix + "ffn_norm");
      layer.ffn_up = linear(prefix + "ffn_up", config.dim, config.ffn_dim, config.activation);
      layer.ffn_down = linear(prefix + "ffn_down", config.ffn_dim, config.dim, Activation::kIdentity);
    }
    layers_.push_back(layer);
  }
  norm_ = norm("norm");
  const auto pooling = [&](const std::string& name, int64_t num_interests) {
    return InterestPoolingParams{linear(name + ".hidden", config.dim, config.pooling_dim, Activation::kSilu),
                                 linear(name + ".logits", config.pooling_dim, num_interests, Activation::kIdentity),
                                 optional(name + ".decay")};
  };
  if (config.num_long > 0) {
    long_pooling_ = pooling("long_pooling", config.num_long);
    long_value_ = linear("long_pooling.value", config.dim, config.dim, Activation::kIdentity);
    for (int64_t a = 0; a < config.num_long; ++a) {
      require(long_pooling_.decay[a] >= 0, "long_pooling.decay: expected values >= 0, got a negative one");
    }
  }
  if (config.num_short > 0) short_pooling_ = pooling("short_pooling", config.num_short);
  fusion_ = {linear("fusion.hidden", config.num_interests() * config.dim + kFusionContext, config.fusion_dim,
                    Activation::kSilu),
             linear("fusion.logits", config.fusion_dim, config.num_interests(), Activation::kIdentity),
             config.num_interests(), config.dim};
  repeats_ = {optional("repeats.gate.weight"), optional("repeats.gate.bias"), optional("repeats.distance"),
              optional("repeats.age"),         optional("repeats.phase"),     boundaries,
              config.num_time_boundaries};
}

}  // namespace lsif::engine
