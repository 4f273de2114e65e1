// lsif::encode on CUDA                                                                          (docs/cuda.md)
//
// Weights and events are checked on host copies; then the weights are packed on the device, at every call as on the
// CPU. lsif_kept::encode (cuda_kept_ops.cpp) does neither.
#include "engine/thread_pool.h"
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
  const auto encoder = make_encoder(std::move(weights), config, norm_eps, threads);
  const engine::EventBatch events = events_on(*encoder, items, times, actions, offsets, now);
  check_offsets("offsets", offsets, events.total);
  const Tensor host_items = ops::on_host(items);
  const std::optional<Tensor> host_actions = on_host(actions);
  const Tensor host_offsets = ops::on_host(offsets);
  engine::EventBatch checked = events;
  checked.items = ints("items", host_items, {events.total});
  checked.actions = ints("actions", host_actions, {events.total});
  checked.offsets = ints("offsets", host_offsets, {events.batch + 1});
  engine::check_events(encoder->model.config, checked);
  return run_encoder(*encoder, events);
}

}  // namespace

std::shared_ptr<CudaEncoder> make_encoder(std::vector<Tensor> weights, const std::vector<int64_t>& config,
                                          double norm_eps, int64_t threads) {
  const engine::ModelConfig c = engine::ModelConfig::from_ints(config, static_cast<float>(norm_eps));
  const int num_threads = engine::check_threads(threads);
  if (weights.empty()) (void)weight_data(c, weights);  // which refuses them
  const DeviceArguments on(weights.front());
  const std::vector<const void*> data = weight_data(c, weights, on.place());
  std::vector<Tensor> copies;
  std::vector<const void*> host_data;
  for (const Tensor& weight : weights) {
    copies.push_back(ops::on_host(weight));
    host_data.push_back(copies.back().const_data_ptr());
  }
  const engine::Model checked(c, host_data, num_threads);
  const OnDevice device(weights.front());
  auto encoder = std::make_shared<CudaEncoder>();
  encoder->packed = new_floats(weights.front(), {engine::device_model_size(c)});
  encoder->weights = std::move(weights);
  check_launch(engine::make_device_model(c, data, output(encoder->packed), device.stream, encoder->model));
  return encoder;
}

engine::EventBatch events_on(const CudaEncoder& encoder, const Tensor& items, const std::optional<Tensor>& times,
                             const std::optional<Tensor>& actions, const Tensor& offsets,
                             const std::optional<Tensor>& now) {
  const DeviceArguments on(encoder.weights.front());
  const int64_t total = size_of("items", items, 1, 0);
  const int64_t batch = size_of("offsets", offsets, 1, 0) - 1;
  if (batch < 0) throw std::invalid_argument("offsets: expected at least one value, got none");
  return {on.ints("items", items, {total}),
          on.ints("times", times, {total}),
          on.ints("actions", actions, {total}),
          on.ints("offsets", offsets, {batch + 1}),
          on.ints("now", now, {batch}),
          total,
          batch};
}

std::tuple<Tensor, Tensor, Tensor> run_encoder(const CudaEncoder& encoder, const engine::EventBatch& events) {
  const engine::ModelConfig& c = encoder.model.config;
  const Tensor& like = encoder.packed;
  const OnDevice device(like);
  Tensor fused = new_floats(like, {events.batch, c.dim});
  Tensor interests = new_floats(like, {events.batch, c.num_interests(), c.dim});
  Tensor weights = new_floats(like, {events.batch, c.num_interests()});
  constexpr auto kInt = static_cast<int64_t>(sizeof(int64_t));
  Tensor workspace = new_ints(like, {engine::encode_workspace_size(c, events.total, events.batch) / kInt});
  check_launch(engine::encode(encoder.model, events, workspace.mutable_data_ptr(),
                              {output(fused), output(interests), output(weights)}, device.stream));
  return {fused, interests, weights};
}

STABLE_TORCH_LIBRARY_IMPL(lsif, CUDA, m) { m.impl("encode", TORCH_BOX(&encode_cuda)); }

}  // namespace lsif::ops
