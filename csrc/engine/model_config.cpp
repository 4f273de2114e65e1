#include "engine/model_config.h"

#include <cmath>
#include <string>
#include <type_traits>

#include "engine/refuse.h"

namespace lsif::engine {
namespace {

void check_between(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return;
  refuse(name, "an integer in [" + std::to_string(least) + ", " + std::to_string(most) + "]", std::to_string(value));
}

void check_config(const ModelConfig& c) {
  for_fields(c, [](const char* name, auto field, int64_t least, int64_t most) {
    check_between(name, static_cast<int64_t>(field), least, most);
  });
  if (c.num_interests() > kMaxScoreInterests) {
    refuse("num_long + num_short", "at most " + std::to_string(kMaxScoreInterests - 1),
           std::to_string(c.num_interests() - 1));
  }
  require(c.dim % c.num_heads == 0,
          "num_heads: expected a divisor of dim = " + std::to_string(c.dim) + ", got " + std::to_string(c.num_heads));
  require(c.norm_eps > 0 && std::isfinite(c.norm_eps),
          "norm_eps: expected a finite number > 0, got " + std::to_string(c.norm_eps));
  require(c.use_times || !c.request_time, "request_time: expected False when use_times is False, got True");
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

Precision precision_from(const std::string& name) {
  if (name == "float32") return Precision::kFloat32;
  if (name == "bfloat16") return Precision::kBfloat16;
  refuse("precision", "'float32' or 'bfloat16'", "'" + name + "'");
}

Block block_from(const std::string& name) {
  if (name == "hstu") return Block::kHstu;
  if (name == "transformer") return Block::kTransformer;
  refuse("block", "'hstu' or 'transformer'", "'" + name + "'");
}

Activation activation_from(const std::string& name) {
  if (name == "identity") return Activation::kIdentity;
  if (name == "relu") return Activation::kRelu;
  if (name == "gelu") return Activation::kGelu;
  if (name == "silu") return Activation::kSilu;
  refuse("activation", "'identity', 'relu', 'gelu' or 'silu'", "'" + name + "'");
}

std::vector<int64_t> ModelConfig::to_ints() const {
  std::vector<int64_t> values;
  for_fields(*this, [&](const char*, auto field, int64_t, int64_t) { values.push_back(static_cast<int64_t>(field)); });
  return values;
}

ModelConfig ModelConfig::from_ints(const std::vector<int64_t>& values, float norm_eps) {
  ModelConfig c;
  const size_t expected = c.to_ints().size();
  require(values.size() == expected,
          "config: expected " + std::to_string(expected) + " integers, got " + std::to_string(values.size()));
  auto value = values.begin();
  for_fields(c, [&](const char* name, auto& field, int64_t least, int64_t most) {
    check_between(name, *value, least, most);
    field = static_cast<std::remove_reference_t<decltype(field)>>(*value++);
  });
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

}  // namespace lsif::engine
