// The CUDA implementations of the ops, on torch's current stream                                 (docs/cuda.md)
//
// The same arguments, checks and results as on the CPU. Offsets and indices are copied to the host to be checked, which
// waits for the stream. Tensors made here may go before the kernels have run: torch gives their memory out again on
// this stream only.
#include "kernels/cuda/launch.h"
#include "ops/cuda_arguments.h"

namespace lsif::ops {
namespace {

// A linear layer and the memory of its packed weights.
struct PackedLinear {
  LinearParams params;
  Tensor packed;
};

// weight: [out_dim, in_dim], checked.
PackedLinear pack(const Tensor& weight, const float* bias, Activation activation, cudaStream_t stream) {
  const int64_t out_dim = weight.size(0);
  const int64_t in_dim = weight.size(1);
  Tensor packed = new_floats(weight, {packed_linear_size(in_dim, out_dim)});
  check_launch(
      cuda::pack_linear(static_cast<const float*>(weight.const_data_ptr()), in_dim, out_dim, output(packed), stream));
  return {{output(packed), bias, in_dim, out_dim, activation}, packed};
}

Tensor embedding_cuda(Tensor items, std::optional<Tensor> actions, Tensor item, std::optional<Tensor> action) {
  const DeviceArguments on(items);
  const int64_t dim = size_of("items", items, 2, 1);
  const int64_t num_rows = size_of("item", item, 1, 0);
  const EmbeddingParams params = {on.floats("items", items, {kAny, dim}), on.floats("actions", actions, {kAny, dim}),
                                  dim};
  const int64_t* item_rows = on.ints("item", item, {num_rows});
  const int64_t* action_rows = on.ints("action", action, {num_rows});
  check_embedding_rows(items, actions, item, action);
  Tensor y = new_floats(items, {num_rows, dim});
  const OnDevice device(items);
  check_launch(cuda::embedding(params, item_rows, action_rows, num_rows, output(y), dim, device.stream));
  return y;
}

Tensor layer_norm_cuda(Tensor x, Tensor weight, Tensor bias, double eps, std::optional<Tensor> gate) {
  const DeviceArguments on(x);
  const int64_t num_rows = size_of("x", x, 2, 0);
  const int64_t dim = size_of("x", x, 2, 1);
  const LayerNormParams params = {on.floats("weight", weight, {dim}), on.floats("bias", bias, {dim}), dim,
                                  static_cast<float>(eps)};
  const float* x_data = on.floats("x", x, {num_rows, dim});
  const float* gate_data = on.floats("gate", gate, {num_rows, dim});
  Tensor y = new_floats(x, {num_rows, dim});
  const OnDevice device(x);
  check_launch(cuda::layer_norm(params, x_data, dim, gate_data, dim, output(y), dim, num_rows, device.stream));
  return y;
}

Tensor linear_cuda(Tensor x, Tensor weight, std::optional<Tensor> bias, std::optional<Tensor> residual,
                   std::string activation) {
  const DeviceArguments on(x);
  const int64_t num_rows = size_of("x", x, 2, 0);
  const int64_t in_dim = size_of("x", x, 2, 1);
  const int64_t out_dim = size_of("weight", weight, 2, 0);
  on.floats("weight", weight, {out_dim, in_dim});
  const float* bias_data = on.floats("bias", bias, {out_dim});
  const float* x_data = on.floats("x", x, {num_rows, in_dim});
  const float* residual_data = on.floats("residual", residual, {num_rows, out_dim});
  const Activation kind = activation_from(activation);
  Tensor y = new_floats(x, {num_rows, out_dim});
  const OnDevice device(x);
  const PackedLinear layer = pack(weight, bias_data, kind, device.stream);
  check_launch(
      cuda::linear(layer.params, x_data, in_dim, residual_data, out_dim, output(y), out_dim, num_rows, device.stream));
  return y;
}

Tensor attention_cuda(Tensor q, Tensor k, Tensor v, Tensor offsets, std::optional<Tensor> times,
                      std::optional<Tensor> query_times, Tensor position_bias, std::optional<Tensor> time_bias,
                      std::optional<Tensor> time_boundaries, std::string kind) {
  const DeviceArguments on(q);
  const int64_t total = size_of("q", q, 2, 0);
  const int64_t dim = size_of("q", q, 2, 1);
  const AttentionParams params = attention_params(dim, position_bias, time_bias, time_boundaries, kind, on.place());
  const AttentionInput input = {on.floats("q", q, {total, dim}),
                                on.floats("k", k, {total, dim}),
                                on.floats("v", v, {total, dim}),
                                dim,
                                dim,
                                on.ints("times", times, {total}),
                                on.ints("query_times", query_times, {total}),
                                total};
  const int64_t batch = check_offsets("offsets", offsets, total);
  const int64_t* begin = on.ints("offsets", offsets, {batch + 1});
  Tensor y = new_floats(q, {total, dim});
  const OnDevice device(q);
  check_launch(cuda::attention(params, input, begin, batch, output(y), dim, device.stream));
  return y;
}

Tensor interest_pooling_cuda(Tensor x, Tensor offsets, std::optional<Tensor> times, Tensor hidden_weight,
                             Tensor hidden_bias, Tensor logits_weight, std::optional<Tensor> decay) {
  const DeviceArguments on(x);
  const int64_t total = size_of("x", x, 2, 0);
  const int64_t dim = size_of("x", x, 2, 1);
  const int64_t pooling_dim = size_of("hidden_weight", hidden_weight, 2, 0);
  const int64_t num_interests = size_of("logits_weight", logits_weight, 2, 0);
  on.floats("hidden_weight", hidden_weight, {pooling_dim, dim});
  on.floats("logits_weight", logits_weight, {num_interests, pooling_dim});
  const float* bias = on.floats("hidden_bias", hidden_bias, {pooling_dim});
  const float* decay_data = on.floats("decay", decay, {num_interests});
  const float* x_data = on.floats("x", x, {total, dim});
  const int64_t* time_data = on.ints("times", times, {total});
  const int64_t batch = check_offsets("offsets", offsets, total);
  const int64_t* begin = on.ints("offsets", offsets, {batch + 1});
  Tensor y = new_floats(x, {batch, num_interests, dim});
  const OnDevice device(x);
  const PackedLinear hidden = pack(hidden_weight, bias, Activation::kSilu, device.stream);
  const PackedLinear logits = pack(logits_weight, nullptr, Activation::kIdentity, device.stream);
  const InterestPoolingParams params = {hidden.params, logits.params, decay_data};
  Tensor scratch = new_floats(x, {cuda::interest_pooling_scratch_size(params, total)});
  check_launch(cuda::interest_pooling(params, x_data, dim, time_data, nullptr, begin, batch, total, output(y),
                                      output(scratch), device.stream));
  return y;
}

std::tuple<Tensor, Tensor> interest_fusion_cuda(Tensor interests, Tensor gap, Tensor length, Tensor hidden_weight,
                                                Tensor hidden_bias, Tensor logits_weight, Tensor logits_bias) {
  const DeviceArguments on(interests);
  const int64_t batch = size_of("interests", interests, 3, 0);
  const int64_t num_interests = size_of("interests", interests, 3, 1);
  const int64_t dim = size_of("interests", interests, 3, 2);
  const int64_t fusion_dim = size_of("hidden_weight", hidden_weight, 2, 0);
  on.floats("hidden_weight", hidden_weight, {fusion_dim, num_interests * dim + kFusionContext});
  on.floats("logits_weight", logits_weight, {num_interests, fusion_dim});
  const float* hidden_bias_data = on.floats("hidden_bias", hidden_bias, {fusion_dim});
  const float* logits_bias_data = on.floats("logits_bias", logits_bias, {num_interests});
  const float* data = on.floats("interests", interests, {batch, num_interests, dim});
  const float* gaps = on.floats("gap", gap, {batch});
  const float* lengths = on.floats("length", length, {batch});
  Tensor weights = new_floats(interests, {batch, num_interests});
  Tensor fused = new_floats(interests, {batch, dim});
  const OnDevice device(interests);
  const PackedLinear hidden = pack(hidden_weight, hidden_bias_data, Activation::kSilu, device.stream);
  const PackedLinear logits = pack(logits_weight, logits_bias_data, Activation::kIdentity, device.stream);
  const InterestFusionParams params = {hidden.params, logits.params, num_interests, dim};
  Tensor scratch = new_floats(interests, {cuda::interest_fusion_scratch_size(params, batch)});
  check_launch(cuda::interest_fusion(params, data, gaps, lengths, batch, output(weights), output(fused),
                                     output(scratch), device.stream));
  return {weights, fused};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lsif, CUDA, m) {
  m.impl("embedding", TORCH_BOX(&embedding_cuda));
  m.impl("layer_norm", TORCH_BOX(&layer_norm_cuda));
  m.impl("linear", TORCH_BOX(&linear_cuda));
  m.impl("attention", TORCH_BOX(&attention_cuda));
  m.impl("interest_pooling", TORCH_BOX(&interest_pooling_cuda));
  m.impl("interest_fusion", TORCH_BOX(&interest_fusion_cuda));
}

}  // namespace lsif::ops
