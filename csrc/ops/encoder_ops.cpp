// One op per encoder kernel. They are the building blocks for tests, experiments and other engines; the request path
// calls the engine directly.
#include "engine/scratch.h"
#include "kernels/cpu/dispatch.h"
#include "ops/checks.h"

namespace lsif::ops {
namespace {

// The weight [out_dim, in_dim] repacked in memory of the scratch.
LinearParams pack(engine::Scratch& scratch, const char* argument, const Tensor& weight, const float* bias,
                  Activation activation) {
  const int64_t out_dim = size_of(argument, weight, 2, 0);
  const int64_t in_dim = size_of(argument, weight, 2, 1);
  const float* values = floats(argument, weight, {out_dim, in_dim});
  float* packed = scratch.floats(packed_linear_size(in_dim, out_dim));
  pack_linear(values, in_dim, out_dim, packed);
  return {packed, bias, in_dim, out_dim, activation};
}

Tensor embedding(Tensor items, std::optional<Tensor> actions, Tensor item, std::optional<Tensor> action) {
  const int64_t dim = size_of("items", items, 2, 1);
  const int64_t num_rows = size_of("item", item, 1, 0);
  const EmbeddingParams params = {floats("items", items, {kAny, dim}), floats("actions", actions, {kAny, dim}), dim};
  const int64_t* item_rows = ints("item", item, {num_rows});
  const int64_t* action_rows = ints("action", action, {num_rows});
  check_embedding_rows(items, actions, item, action);
  Tensor y = new_floats(items, {num_rows, dim});
  cpu::kernels().embedding(params, item_rows, action_rows, num_rows, static_cast<float*>(y.mutable_data_ptr()), dim);
  return y;
}

Tensor layer_norm(Tensor x, Tensor weight, Tensor bias, double eps, std::optional<Tensor> gate) {
  const int64_t num_rows = size_of("x", x, 2, 0);
  const int64_t dim = size_of("x", x, 2, 1);
  const LayerNormParams params = {floats("weight", weight, {dim}), floats("bias", bias, {dim}), dim,
                                  static_cast<float>(eps)};
  const float* x_data = floats("x", x, {num_rows, dim});
  const float* gate_data = floats("gate", gate, {num_rows, dim});
  Tensor y = new_floats(x, {num_rows, dim});
  cpu::kernels().layer_norm(params, x_data, dim, gate_data, dim, static_cast<float*>(y.mutable_data_ptr()), dim,
                            num_rows);
  return y;
}

Tensor linear(Tensor x, Tensor weight, std::optional<Tensor> bias, std::optional<Tensor> residual,
              std::string activation) {
  const int64_t num_rows = size_of("x", x, 2, 0);
  const int64_t in_dim = size_of("x", x, 2, 1);
  const int64_t out_dim = size_of("weight", weight, 2, 0);
  engine::Scratch scratch;
  floats("weight", weight, {out_dim, in_dim});
  const LinearParams params =
      pack(scratch, "weight", weight, floats("bias", bias, {out_dim}), activation_from(activation));
  const float* x_data = floats("x", x, {num_rows, in_dim});
  const float* residual_data = floats("residual", residual, {num_rows, out_dim});
  Tensor y = new_floats(x, {num_rows, out_dim});
  cpu::kernels().linear(params, x_data, in_dim, residual_data, out_dim, static_cast<float*>(y.mutable_data_ptr()),
                        out_dim, num_rows);
  return y;
}

Tensor attention(Tensor q, Tensor k, Tensor v, Tensor offsets, std::optional<Tensor> times,
                 std::optional<Tensor> query_times, Tensor position_bias, std::optional<Tensor> time_bias,
                 std::optional<Tensor> time_boundaries, std::string kind) {
  const int64_t total = size_of("q", q, 2, 0);
  const int64_t dim = size_of("q", q, 2, 1);
  const AttentionParams params = attention_params(dim, position_bias, time_bias, time_boundaries, kind);
  const float* q_data = floats("q", q, {total, dim});
  const float* k_data = floats("k", k, {total, dim});
  const float* v_data = floats("v", v, {total, dim});
  const int64_t* time_data = ints("times", times, {total});
  const int64_t* query_time_data = ints("query_times", query_times, {total});
  const int64_t batch = check_offsets("offsets", offsets, total);
  const int64_t* begin = ints("offsets", offsets, {batch + 1});
  Tensor y = new_floats(q, {total, dim});
  auto* y_data = static_cast<float*>(y.mutable_data_ptr());
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t row = begin[b];
    const int64_t seq_len = begin[b + 1] - row;
    engine::Scratch scratch;
    const AttentionInput input = {q_data + row * dim,
                                  k_data + row * dim,
                                  v_data + row * dim,
                                  dim,
                                  dim,
                                  time_data ? time_data + row : nullptr,
                                  query_time_data ? query_time_data + row : nullptr,
                                  seq_len};
    cpu::kernels().attention(params, input, 0, y_data + row * dim, dim,
                             scratch.floats(attention_scratch_size(params, seq_len)));
  }
  return y;
}

Tensor interest_pooling(Tensor x, Tensor offsets, std::optional<Tensor> times, Tensor hidden_weight, Tensor hidden_bias,
                        Tensor logits_weight, std::optional<Tensor> decay) {
  const int64_t total = size_of("x", x, 2, 0);
  const int64_t dim = size_of("x", x, 2, 1);
  const int64_t pooling_dim = size_of("hidden_weight", hidden_weight, 2, 0);
  const int64_t num_interests = size_of("logits_weight", logits_weight, 2, 0);
  engine::Scratch scratch;
  floats("hidden_weight", hidden_weight, {pooling_dim, dim});
  floats("logits_weight", logits_weight, {num_interests, pooling_dim});
  const float* bias = floats("hidden_bias", hidden_bias, {pooling_dim});
  const InterestPoolingParams params = {pack(scratch, "hidden_weight", hidden_weight, bias, Activation::kSilu),
                                        pack(scratch, "logits_weight", logits_weight, nullptr, Activation::kIdentity),
                                        floats("decay", decay, {num_interests})};
  const float* x_data = floats("x", x, {total, dim});
  const int64_t* time_data = ints("times", times, {total});
  const int64_t batch = check_offsets("offsets", offsets, total);
  const int64_t* begin = ints("offsets", offsets, {batch + 1});
  Tensor y = new_floats(x, {batch, num_interests, dim});
  auto* y_data = static_cast<float*>(y.mutable_data_ptr());
  float* work = scratch.floats(interest_pooling_scratch_size(params));
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t seq_len = begin[b + 1] - begin[b];
    const int64_t newest = time_data && seq_len > 0 ? time_data[begin[b + 1] - 1] : kUnknownTime;
    cpu::kernels().interest_pooling(params, x_data + begin[b] * dim, dim, time_data ? time_data + begin[b] : nullptr,
                                    newest, seq_len, y_data + b * num_interests * dim, work);
  }
  return y;
}

std::tuple<Tensor, Tensor> interest_fusion(Tensor interests, Tensor gap, Tensor length, Tensor hidden_weight,
                                           Tensor hidden_bias, Tensor logits_weight, Tensor logits_bias) {
  const int64_t batch = size_of("interests", interests, 3, 0);
  const int64_t num_interests = size_of("interests", interests, 3, 1);
  const int64_t dim = size_of("interests", interests, 3, 2);
  const int64_t fusion_dim = size_of("hidden_weight", hidden_weight, 2, 0);
  engine::Scratch scratch;
  floats("hidden_weight", hidden_weight, {fusion_dim, num_interests * dim + kFusionContext});
  floats("logits_weight", logits_weight, {num_interests, fusion_dim});
  const InterestFusionParams params = {pack(scratch, "hidden_weight", hidden_weight,
                                            floats("hidden_bias", hidden_bias, {fusion_dim}), Activation::kSilu),
                                       pack(scratch, "logits_weight", logits_weight,
                                            floats("logits_bias", logits_bias, {num_interests}), Activation::kIdentity),
                                       num_interests, dim};
  const float* data = floats("interests", interests, {batch, num_interests, dim});
  const float* gaps = floats("gap", gap, {batch});
  const float* lengths = floats("length", length, {batch});
  Tensor weights = new_floats(interests, {batch, num_interests});
  Tensor fused = new_floats(interests, {batch, dim});
  auto* weight_data = static_cast<float*>(weights.mutable_data_ptr());
  auto* fused_data = static_cast<float*>(fused.mutable_data_ptr());
  float* work = scratch.floats(interest_fusion_scratch_size(params));
  for (int64_t b = 0; b < batch; ++b) {
    cpu::kernels().interest_fusion(params, data + b * num_interests * dim, gaps[b], lengths[b],
                                   weight_data + b * num_interests, fused_data + b * dim, work);
  }
  return {weights, fused};
}

}  // namespace

STABLE_TORCH_LIBRARY(lsif, m) {
  m.def("embedding(Tensor items, Tensor? actions, Tensor item, Tensor? action) -> Tensor");
  m.def("layer_norm(Tensor x, Tensor weight, Tensor bias, float eps, Tensor? gate=None) -> Tensor");
  m.def(
      "linear(Tensor x, Tensor weight, Tensor? bias=None, Tensor? residual=None, str activation='identity') -> Tensor");
  m.def(
      "attention(Tensor q, Tensor k, Tensor v, Tensor offsets, Tensor? times, Tensor? query_times, Tensor "
      "position_bias, "
      "Tensor? time_bias, Tensor? time_boundaries, str kind) -> Tensor");
  m.def(
      "interest_pooling(Tensor x, Tensor offsets, Tensor? times, Tensor hidden_weight, Tensor hidden_bias, "
      "Tensor logits_weight, Tensor? decay=None) -> Tensor");
  m.def(
      "interest_fusion(Tensor interests, Tensor gap, Tensor length, Tensor hidden_weight, Tensor hidden_bias, "
      "Tensor logits_weight, Tensor logits_bias) -> (Tensor weights, Tensor fused)");
}

STABLE_TORCH_LIBRARY_IMPL(lsif, CPU, m) {
  m.impl("embedding", TORCH_BOX(&embedding));
  m.impl("layer_norm", TORCH_BOX(&layer_norm));
  m.impl("linear", TORCH_BOX(&linear));
  m.impl("attention", TORCH_BOX(&attention));
  m.impl("interest_pooling", TORCH_BOX(&interest_pooling));
  m.impl("interest_fusion", TORCH_BOX(&interest_fusion));
}

}  // namespace lsif::ops
