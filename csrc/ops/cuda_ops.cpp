// The CUDA implementations of the ops, on torch's current stream                                 (docs/cuda.md)
//
// The same arguments, checks and results as on the CPU. Offsets and indices are copied to the host to be checked, which
// waits for the stream. Tensors made here may go before the kernels have run: torch gives their memory out again on
// this stream only.
#include "kernels/cuda/launch.h"
#include "ops/cuda_arguments.h"
#include "ops/encoder_arguments.h"

namespace lsif::ops {
namespace {

// A linear layer and the memory of its packed weights.
struct PackedLinear {
  LinearParams params;
  Tensor packed;
};

// On the device of `like`.
PackedLinear pack(const Tensor& like, const LayerArguments& layer, cudaStream_t stream) {
  Tensor packed = new_floats(like, {packed_linear_size(layer.in_dim, layer.out_dim)});
  check_launch(cuda::pack_linear(layer.weight, layer.in_dim, layer.out_dim, output(packed), stream));
  return {layer.packed(output(packed)), packed};
}

Tensor embedding_cuda(Tensor items, std::optional<Tensor> actions, Tensor item, std::optional<Tensor> action) {
  const auto a = EmbeddingArguments::from(items, actions, item, action, device_of(items));
  const int64_t dim = a.params.dim;
  Tensor y = new_floats(items, {a.num_rows, dim});
  const OnDevice device(items);
  check_launch(cuda::embedding(a.params, a.item, a.action, a.num_rows, output(y), dim, device.stream));
  return y;
}

Tensor layer_norm_cuda(Tensor x, Tensor weight, Tensor bias, double eps, std::optional<Tensor> gate) {
  const auto a = LayerNormArguments::from(x, weight, bias, eps, gate, device_of(x));
  const int64_t dim = a.params.dim;
  Tensor y = new_floats(x, {a.num_rows, dim});
  const OnDevice device(x);
  check_launch(cuda::layer_norm(a.params, a.x, dim, a.gate, dim, output(y), dim, a.num_rows, device.stream));
  return y;
}

Tensor linear_cuda(Tensor x, Tensor weight, std::optional<Tensor> bias, std::optional<Tensor> residual,
                   std::string activation) {
  const auto a = LinearArguments::from(x, weight, bias, residual, activation, device_of(x));
  const int64_t out_dim = a.layer.out_dim;
  Tensor y = new_floats(x, {a.num_rows, out_dim});
  const OnDevice device(x);
  const PackedLinear layer = pack(x, a.layer, device.stream);
  check_launch(cuda::linear(layer.params, a.x, a.layer.in_dim, a.residual, out_dim, output(y), out_dim, a.num_rows,
                            device.stream));
  return y;
}

Tensor attention_cuda(Tensor q, Tensor k, Tensor v, Tensor offsets, std::optional<Tensor> times,
                      std::optional<Tensor> query_times, Tensor position_bias, std::optional<Tensor> time_bias,
                      std::optional<Tensor> time_boundaries, std::string kind) {
  const auto a = AttentionArguments::from(q, k, v, offsets, times, query_times, position_bias, time_bias,
                                          time_boundaries, kind, device_of(q));
  Tensor y = new_floats(q, {a.all.seq_len, a.dim});
  const OnDevice device(q);
  check_launch(cuda::attention(a.params, a.all, a.offsets, a.batch, output(y), a.dim, device.stream));
  return y;
}

Tensor interest_pooling_cuda(Tensor x, Tensor offsets, std::optional<Tensor> times, Tensor hidden_weight,
                             Tensor hidden_bias, Tensor logits_weight, std::optional<Tensor> decay) {
  const auto a =
      InterestPoolingArguments::from(x, offsets, times, hidden_weight, hidden_bias, logits_weight, decay, device_of(x));
  Tensor y = new_floats(x, {a.batch, a.num_interests(), a.dim()});
  const OnDevice device(x);
  const PackedLinear hidden = pack(x, a.hidden, device.stream);
  const PackedLinear logits = pack(x, a.logits, device.stream);
  const InterestPoolingParams params = {hidden.params, logits.params, a.decay};
  Tensor scratch = new_floats(x, {cuda::interest_pooling_scratch_size(params, a.total)});
  check_launch(cuda::interest_pooling(params, a.x, a.dim(), a.times, nullptr, a.offsets, a.batch, a.total, output(y),
                                      output(scratch), device.stream));
  return y;
}

std::tuple<Tensor, Tensor> interest_fusion_cuda(Tensor interests, Tensor gap, Tensor length, Tensor hidden_weight,
                                                Tensor hidden_bias, Tensor logits_weight, Tensor logits_bias) {
  const auto a = InterestFusionArguments::from(interests, gap, length, hidden_weight, hidden_bias, logits_weight,
                                               logits_bias, device_of(interests));
  Tensor weights = new_floats(interests, {a.batch, a.num_interests});
  Tensor fused = new_floats(interests, {a.batch, a.dim});
  const OnDevice device(interests);
  const PackedLinear hidden = pack(interests, a.hidden, device.stream);
  const PackedLinear logits = pack(interests, a.logits, device.stream);
  const InterestFusionParams params = {hidden.params, logits.params, a.num_interests, a.dim};
  Tensor scratch = new_floats(interests, {cuda::interest_fusion_scratch_size(params, a.batch)});
  check_launch(cuda::interest_fusion(params, a.interests, a.gap, a.length, a.batch, output(weights), output(fused),
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
