// The tensors of the encoder's ops as what kernels take, checked: the same arguments on every device. Linear layers are
// left for each device to pack.
#pragma once

#include <optional>
#include <string>

#include "engine/model_config.h"
#include "engine/refuse.h"
#include "ops/checks.h"

namespace lsif::ops {

struct EmbeddingArguments {
  EmbeddingParams params;
  const int64_t* item;
  const int64_t* action;
  int64_t num_rows;

  static EmbeddingArguments from(const Tensor& items, const std::optional<Tensor>& actions, const Tensor& item,
                                 const std::optional<Tensor>& action, Place place = {}) {
    const int64_t dim = size_of("items", items, 2, 1);
    const int64_t num_rows = size_of("item", item, 1, 0);
    const EmbeddingArguments arguments = {
        {floats("items", items, {kAny, dim}, place), floats("actions", actions, {kAny, dim}, place), dim},
        ints("item", item, {num_rows}, place),
        ints("action", action, {num_rows}, place),
        num_rows};
    check_rows("item", item, items.size(0));
    if (actions && actions->size(0) == 0) {
      engine::refuse("actions", "at least one row (of unknown actions)", "none");
    }
    if (actions && action) check_rows("action", *action, actions->size(0));
    return arguments;
  }
};

struct LayerNormArguments {
  LayerNormParams params;
  const float* x;
  const float* gate;
  int64_t num_rows;

  static LayerNormArguments from(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                                 const std::optional<Tensor>& gate, Place place = {}) {
    const int64_t num_rows = size_of("x", x, 2, 0);
    const int64_t dim = size_of("x", x, 2, 1);
    return {{floats("weight", weight, {dim}, place), floats("bias", bias, {dim}, place), dim, static_cast<float>(eps)},
            floats("x", x, {num_rows, dim}, place),
            floats("gate", gate, {num_rows, dim}, place),
            num_rows};
  }
};

// A linear layer that is not packed yet.
struct LayerArguments {
  const float* weight;  // [out_dim, in_dim]
  const float* bias;    // [out_dim], or null
  int64_t in_dim;
  int64_t out_dim;
  Activation activation;

  LinearParams packed(const float* values) const { return {values, bias, in_dim, out_dim, activation}; }
};

struct LinearArguments {
  LayerArguments layer;
  const float* x;
  const float* residual;
  int64_t num_rows;

  static LinearArguments from(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                              const std::optional<Tensor>& residual, const std::string& activation, Place place = {}) {
    const int64_t num_rows = size_of("x", x, 2, 0);
    const int64_t in_dim = size_of("x", x, 2, 1);
    const int64_t out_dim = size_of("weight", weight, 2, 0);
    return {{floats("weight", weight, {out_dim, in_dim}, place), floats("bias", bias, {out_dim}, place), in_dim,
             out_dim, engine::activation_from(activation)},
            floats("x", x, {num_rows, in_dim}, place),
            floats("residual", residual, {num_rows, out_dim}, place),
            num_rows};
  }
};

inline AttentionKind attention_kind_from(const std::string& name) {
  if (name == "softmax") return AttentionKind::kSoftmax;
  if (name == "silu") return AttentionKind::kSilu;
  engine::refuse("kind", "'softmax' or 'silu'", "'" + name + "'");
}

struct AttentionArguments {
  AttentionParams params;
  AttentionInput all;  // the rows of all sequences
  int64_t batch;
  const int64_t* offsets;  // [batch + 1]
  int64_t dim;

  // position_bias [num_heads, window]: num_heads divides dim, and neither is 0.
  static AttentionArguments from(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& offsets,
                                 const std::optional<Tensor>& times, const std::optional<Tensor>& query_times,
                                 const Tensor& position_bias, const std::optional<Tensor>& time_bias,
                                 const std::optional<Tensor>& time_boundaries, const std::string& kind,
                                 Place place = {}) {
    const int64_t total = size_of("q", q, 2, 0);
    const int64_t dim = size_of("q", q, 2, 1);
    const int64_t num_heads = size_of("position_bias", position_bias, 2, 0);
    const int64_t window = position_bias.size(1);
    if (num_heads < 1 || window < 1 || dim % num_heads != 0) {
      engine::refuse("position_bias", "shape [num_heads >= 1 dividing " + std::to_string(dim) + ", window >= 1]",
                     shape_text(position_bias));
    }
    check_both_or_none("time_boundaries", time_boundaries, "time_bias", time_bias);
    const int64_t num_boundaries = time_boundaries ? size_of("time_boundaries", *time_boundaries, 1, 0) : 0;
    const AttentionParams params = {attention_kind_from(kind),
                                    num_heads,
                                    dim / num_heads,
                                    window,
                                    floats("position_bias", position_bias, {num_heads, window}, place),
                                    floats("time_bias", time_bias, {num_heads, num_boundaries + 2}, place),
                                    ints("time_boundaries", time_boundaries, {num_boundaries}, place),
                                    num_boundaries};
    const AttentionInput all = {floats("q", q, {total, dim}, place),
                                floats("k", k, {total, dim}, place),
                                floats("v", v, {total, dim}, place),
                                dim,
                                dim,
                                ints("times", times, {total}, place),
                                ints("query_times", query_times, {total}, place),
                                total};
    return {params, all, check_offsets("offsets", offsets, total), ints("offsets", offsets, {kAny}, place), dim};
  }
};

struct InterestPoolingArguments {
  LayerArguments hidden;
  LayerArguments logits;
  const float* decay;
  const float* x;
  const int64_t* times;
  int64_t total;
  int64_t batch;
  const int64_t* offsets;  // [batch + 1]

  int64_t dim() const { return hidden.in_dim; }
  int64_t num_interests() const { return logits.out_dim; }

  static InterestPoolingArguments from(const Tensor& x, const Tensor& offsets, const std::optional<Tensor>& times,
                                       const Tensor& hidden_weight, const Tensor& hidden_bias,
                                       const Tensor& logits_weight, const std::optional<Tensor>& decay,
                                       Place place = {}) {
    const int64_t total = size_of("x", x, 2, 0);
    const int64_t dim = size_of("x", x, 2, 1);
    const int64_t pooling_dim = size_of("hidden_weight", hidden_weight, 2, 0);
    const int64_t num_interests = size_of("logits_weight", logits_weight, 2, 0);
    const float* hidden = floats("hidden_weight", hidden_weight, {pooling_dim, dim}, place);
    const float* logits = floats("logits_weight", logits_weight, {num_interests, pooling_dim}, place);
    const float* bias = floats("hidden_bias", hidden_bias, {pooling_dim}, place);
    return {{hidden, bias, dim, pooling_dim, Activation::kSilu},
            {logits, nullptr, pooling_dim, num_interests, Activation::kIdentity},
            floats("decay", decay, {num_interests}, place),
            floats("x", x, {total, dim}, place),
            ints("times", times, {total}, place),
            total,
            check_offsets("offsets", offsets, total),
            ints("offsets", offsets, {kAny}, place)};
  }
};

struct InterestFusionArguments {
  LayerArguments hidden;
  LayerArguments logits;
  const float* interests;  // [batch, num_interests, dim]
  const float* gap;
  const float* length;
  int64_t batch;
  int64_t num_interests;
  int64_t dim;

  static InterestFusionArguments from(const Tensor& interests, const Tensor& gap, const Tensor& length,
                                      const Tensor& hidden_weight, const Tensor& hidden_bias,
                                      const Tensor& logits_weight, const Tensor& logits_bias, Place place = {}) {
    const int64_t batch = size_of("interests", interests, 3, 0);
    const int64_t num_interests = size_of("interests", interests, 3, 1);
    const int64_t dim = size_of("interests", interests, 3, 2);
    const int64_t in_dim = num_interests * dim + kFusionContext;
    const int64_t fusion_dim = size_of("hidden_weight", hidden_weight, 2, 0);
    const float* hidden = floats("hidden_weight", hidden_weight, {fusion_dim, in_dim}, place);
    const float* logits = floats("logits_weight", logits_weight, {num_interests, fusion_dim}, place);
    return {{hidden, floats("hidden_bias", hidden_bias, {fusion_dim}, place), in_dim, fusion_dim, Activation::kSilu},
            {logits, floats("logits_bias", logits_bias, {num_interests}, place), fusion_dim, num_interests,
             Activation::kIdentity},
            floats("interests", interests, {batch, num_interests, dim}, place),
            floats("gap", gap, {batch}, place),
            floats("length", length, {batch}, place),
            batch,
            num_interests,
            dim};
  }
};

}  // namespace lsif::ops
