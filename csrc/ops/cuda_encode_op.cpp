// lsif::encode on CUDA                                                                          (docs/cuda.md)
//
// Weights and events are checked on host copies; then the weights are packed on the device, at every call as on the
// CPU. lsif_kept::encode (cuda_kept_ops.cpp) does neither.
#include "engine/refuse.h"
#include "engine/thread_pool.h"
#include "kernels/cuda/attention_bf16.h"
#include "ops/cuda_encoder.h"

namespace lsif::ops {
namespace {

std::optional<Tensor> on_host(const std::optional<Tensor>& t) {
  return t ? std::optional(ops::on_host(*t)) : std::nullopt;
}

std::tuple<Tensor, Tensor, Tensor> encode_cuda(std::vector<Tensor> weights, std::vector<int64_t> config,
                                               double norm_eps, Tensor items, std::optional<Tensor> times,
                                               std::optional<Tensor> actions, Tensor offsets, std::optional<Tensor> now,
                                               int64_t threads) {
  const auto encoder = make_encoder(std::move(weights), config, norm_eps, engine::Precision::kFloat32, threads);
  check_offsets("offsets", offsets, size_of("items", items, 1, 0));
  const engine::EventBatch events = event_batch(items, times, actions, offsets, now, device_of(encoder->packed));
  const Tensor host_items = ops::on_host(items);
  const std::optional<Tensor> host_actions = on_host(actions);
  const Tensor host_offsets = ops::on_host(offsets);
  engine::check_events(encoder->model.config,
                       event_batch(host_items, std::nullopt, host_actions, host_offsets, std::nullopt));
  return run_encoder(*encoder, events);
}

}  // namespace

std::shared_ptr<CudaEncoder> make_encoder(std::vector<Tensor> weights, const std::vector<int64_t>& config,
                                          double norm_eps, engine::Precision precision, int64_t threads) {
  const engine::ModelConfig c = engine::ModelConfig::from_ints(config, static_cast<float>(norm_eps));
  if (precision == engine::Precision::kBfloat16 && c.head_dim() > cuda::kMostBf16HeadDim) {
    engine::refuse(
        "precision",
        "'float32' on a GPU with heads of more than " + std::to_string(cuda::kMostBf16HeadDim) + " dimensions",
        "'bfloat16' and heads of " + std::to_string(c.head_dim()));
  }
  if (weights.empty()) (void)weight_data(c, weights);  // which refuses them
  const DeviceArguments on(weights.front());
  const std::vector<const void*> data = weight_data(c, weights, on.place());
  const int num_threads = engine::check_threads(threads);
  std::vector<Tensor> copies;
  std::vector<const void*> host_data;
  for (const Tensor& weight : weights) {
    copies.push_back(ops::on_host(weight));
    host_data.push_back(copies.back().const_data_ptr());
  }
  engine::check_weights(c, host_data, num_threads);
  const OnDevice device(weights.front());
  auto encoder = std::make_shared<CudaEncoder>();
  encoder->packed = new_floats(weights.front(), {engine::device_model_size(c, precision)});
  encoder->weights = std::move(weights);
  check_launch(engine::make_device_model(c, data, output(encoder->packed), device.stream, encoder->model, precision));
  return encoder;
}

std::tuple<Tensor, Tensor, Tensor> run_encoder(const CudaEncoder& encoder, const engine::EventBatch& events) {
  const engine::ModelConfig& c = encoder.model.config;
  const Tensor& like = encoder.packed;
  const OnDevice device(like);
  Encoding encoding(like, c, events.batch);
  constexpr auto kInt = static_cast<int64_t>(sizeof(int64_t));
  Tensor workspace = new_ints(like, {engine::encode_workspace_size(c, events.total, events.batch) / kInt});
  check_launch(engine::encode(encoder.model, events, workspace.mutable_data_ptr(), encoding.out(), device.stream));
  return encoding.tensors();
}

STABLE_TORCH_LIBRARY_IMPL(lsif, CUDA, m) { m.impl("encode", TORCH_BOX(&encode_cuda)); }

}  // namespace lsif::ops
