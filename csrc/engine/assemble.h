// A model's kernels from its tensors, on any device: the one list of which kernel reads which tensor
//                                                                                                   (docs/model.md)
#pragma once

#include <string>

#include "engine/model.h"

namespace lsif::engine {

// Weights must provide
//   const float* floats(name), const int64_t* ints(name): the values of a tensor; null if the model does not have it
//   LinearParams linear(name, in_dim, out_dim, activation, is_in_block): from name.weight and, if present, name.bias
template <typename Weights>
class Assembler {
 public:
  Assembler(const ModelConfig& config, Weights& weights) : c_(config), weights_(weights) {}

  ModelParts parts() {
    ModelParts parts;
    parts.embedding = {floats("item_embedding"), floats("action_embedding"), c_.dim};
    for (int64_t l = 0; l < c_.num_layers; ++l) parts.layers.push_back(layer("layers." + std::to_string(l) + "."));
    parts.norm = norm("norm");
    if (c_.num_long > 0) {
      parts.long_pooling = pooling("long_pooling", c_.num_long);
      parts.long_value = linear("long_pooling.value", c_.dim, c_.dim, Activation::kIdentity);
    }
    if (c_.num_short > 0) parts.short_pooling = pooling("short_pooling", c_.num_short);
    const int64_t context = c_.num_interests() * c_.dim + kFusionContext;
    parts.fusion = {linear("fusion.hidden", context, c_.fusion_dim, Activation::kSilu),
                    linear("fusion.logits", c_.fusion_dim, c_.num_interests(), Activation::kIdentity),
                    c_.num_interests(), c_.dim};
    return parts;
  }

 private:
  const float* floats(const std::string& name) { return weights_.floats(name); }

  LayerNormParams norm(const std::string& name) {
    return {floats(name + ".weight"), floats(name + ".bias"), c_.dim, c_.norm_eps};
  }

  LinearParams linear(const std::string& name, int64_t in_dim, int64_t out_dim, Activation activation,
                      bool is_in_block = false) {
    return weights_.linear(name, in_dim, out_dim, activation, is_in_block);
  }

  Layer layer(const std::string& prefix) {
    const bool hstu = c_.block == Block::kHstu;
    Layer layer{};
    layer.norm = norm(prefix + "norm");
    layer.input = linear(prefix + "input", c_.dim, (hstu ? 4 : 3) * c_.dim,
                         hstu ? Activation::kSilu : Activation::kIdentity, true);
    layer.attention = {hstu ? AttentionKind::kSilu : AttentionKind::kSoftmax,
                       c_.num_heads,
                       c_.head_dim(),
                       c_.window,
                       floats(prefix + "position_bias"),
                       floats(prefix + "time_bias"),
                       weights_.ints("time_boundaries"),
                       c_.num_time_boundaries};
    layer.output = linear(prefix + "output", c_.dim, c_.dim, Activation::kIdentity, true);
    if (hstu) {
      layer.output_norm = norm(prefix + "output_norm");
      return layer;
    }
    layer.ffn_norm = norm(prefix + "ffn_norm");
    layer.ffn_up = linear(prefix + "ffn_up", c_.dim, c_.ffn_dim, c_.activation, true);
    layer.ffn_down = linear(prefix + "ffn_down", c_.ffn_dim, c_.dim, Activation::kIdentity, true);
    return layer;
  }

  InterestPoolingParams pooling(const std::string& name, int64_t num_interests) {
    return {linear(name + ".hidden", c_.dim, c_.pooling_dim, Activation::kSilu),
            linear(name + ".logits", c_.pooling_dim, num_interests, Activation::kIdentity), floats(name + ".decay")};
  }

  const ModelConfig& c_;
  Weights& weights_;
};

}  // namespace lsif::engine
