// One op per encoder kernel. They are the building blocks for tests, experiments and other engines; the request path
// calls the engine directly.
#include "engine/scratch.h"
#include "kernels/cpu/dispatch.h"
#include "ops/encoder_arguments.h"

namespace lsif::ops {
namespace {

// Packed in memory of the scratch.
LinearParams pack(engine::Scratch& scratch, const LayerArguments& layer) {
  float* packed = scratch.floats(packed_linear_size(layer.in_dim, layer.out_dim));
  pack_linear(layer.weight, layer.in_dim, layer.out_dim, packed);
  return layer.packed(packed);
}

Tensor embedding(Tensor items, std::optional<Tensor> actions, Tensor item, std::optional<Tensor> action) {
  const auto a = EmbeddingArguments::from(items, actions, item, action);
  const int64_t dim = a.params.dim;
  Tensor y = new_floats(items, {a.num_rows, dim});
  cpu::kernels().embedding(a.params, a.item, a.action, a.num_rows, output(y), dim);
  return y;
}

Tensor layer_norm(Tensor x, Tensor weight, Tensor bias, double eps, std::optional<Tensor> gate) {
  const auto a = LayerNormArguments::from(x, weight, bias, eps, gate);
  const int64_t dim = a.params.dim;
  Tensor y = new_floats(x, {a.num_rows, dim});
  cpu::kernels().layer_norm(a.params, a.x, dim, a.gate, dim, output(y), dim, a.num_rows);
  return y;
}

Tensor linear(Tensor x, Tensor weight, std::optional<Tensor> bias, std::optional<Tensor> residual,
              std::string activation) {
  const auto a = LinearArguments::from(x, weight, bias, residual, activation);
  const int64_t out_dim = a.layer.out_dim;
  engine::Scratch scratch;
  const LinearParams params = pack(scratch, a.layer);
  Tensor y = new_floats(x, {a.num_rows, out_dim});
  cpu::kernels().linear(params, a.x, params.in_dim, a.residual, out_dim, output(y), out_dim, a.num_rows);
  return y;
}

Tensor attention(Tensor q, Tensor k, Tensor v, Tensor offsets, std::optional<Tensor> times,
                 std::optional<Tensor> query_times, Tensor position_bias, std::optional<Tensor> time_bias,
                 std::optional<Tensor> time_boundaries, std::string kind) {
  const auto a =
      AttentionArguments::from(q, k, v, offsets, times, query_times, position_bias, time_bias, time_boundaries, kind);
  const AttentionInput& all = a.all;
  const int64_t dim = a.dim;
  Tensor y = new_floats(q, {all.seq_len, dim});
  for (int64_t b = 0; b < a.batch; ++b) {
    const int64_t row = a.offsets[b];
    const int64_t seq_len = a.offsets[b + 1] - row;
    engine::Scratch scratch;
    const AttentionInput input = {all.q + row * dim,
                                  all.k + row * dim,
                                  all.v + row * dim,
                                  dim,
                                  dim,
                                  all.times ? all.times + row : nullptr,
                                  all.query_times ? all.query_times + row : nullptr,
                                  seq_len};
    cpu::kernels().attention(a.params, input, 0, output(y) + row * dim, dim,
                             scratch.floats(attention_scratch_size(a.params, seq_len)));
  }
  return y;
}

Tensor interest_pooling(Tensor x, Tensor offsets, std::optional<Tensor> times, Tensor hidden_weight, Tensor hidden_bias,
                        Tensor logits_weight, std::optional<Tensor> decay) {
  const auto a = InterestPoolingArguments::from(x, offsets, times, hidden_weight, hidden_bias, logits_weight, decay);
  const int64_t dim = a.dim();
  engine::Scratch scratch;
  const InterestPoolingParams params = {pack(scratch, a.hidden), pack(scratch, a.logits), a.decay};
  Tensor y = new_floats(x, {a.batch, a.num_interests(), dim});
  float* work = scratch.floats(interest_pooling_scratch_size(params));
  for (int64_t b = 0; b < a.batch; ++b) {
    const int64_t begin = a.offsets[b];
    const int64_t seq_len = a.offsets[b + 1] - begin;
    const int64_t newest = a.times && seq_len > 0 ? a.times[a.offsets[b + 1] - 1] : kUnknownTime;
    cpu::kernels().interest_pooling(params, a.x + begin * dim, dim, a.times ? a.times + begin : nullptr, newest,
                                    seq_len, output(y) + b * a.num_interests() * dim, work);
  }
  return y;
}

std::tuple<Tensor, Tensor> interest_fusion(Tensor interests, Tensor gap, Tensor length, Tensor hidden_weight,
                                           Tensor hidden_bias, Tensor logits_weight, Tensor logits_bias) {
  const auto a =
      InterestFusionArguments::from(interests, gap, length, hidden_weight, hidden_bias, logits_weight, logits_bias);
  engine::Scratch scratch;
  const InterestFusionParams params = {pack(scratch, a.hidden), pack(scratch, a.logits), a.num_interests, a.dim};
  Tensor weights = new_floats(interests, {a.batch, a.num_interests});
  Tensor fused = new_floats(interests, {a.batch, a.dim});
  float* work = scratch.floats(interest_fusion_scratch_size(params));
  for (int64_t b = 0; b < a.batch; ++b) {
    cpu::kernels().interest_fusion(params, a.interests + b * a.num_interests * a.dim, a.gap[b], a.length[b],
                                   output(weights) + b * a.num_interests, output(fused) + b * a.dim, work);
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
