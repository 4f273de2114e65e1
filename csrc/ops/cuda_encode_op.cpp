// lsif::encode on CUDA                                                                          (docs/cuda.md)
//
// Weights and events are checked on host copies, by the engine's own checks; then the weights are packed on the device,
// at every call as on the CPU.
#include "engine/cuda_encode.h"
#include "engine/thread_pool.h"
#include "ops/cuda_arguments.h"

namespace lsif::ops {
namespace {

// The weights' addresses; refuses what the CPU refuses.
std::vector<const void*> check_weights(const engine::ModelConfig& c, const std::vector<Tensor>& weights, Place place,
                                       int threads) {
  const std::vector<engine::WeightSpec> specs = engine::weight_specs(c);
  if (weights.size() != specs.size()) {
    throw std::invalid_argument("weights: expected " + std::to_string(specs.size()) + " tensors, got " +
                                std::to_string(weights.size()));
  }
  std::vector<const void*> data;
  std::vector<Tensor> copies;
  std::vector<const void*> host_data;
  for (size_t i = 0; i < specs.size(); ++i) {
    const ScalarType dtype = specs[i].is_int64 ? ScalarType::Long : ScalarType::Float;
    check_tensor(specs[i].name.c_str(), weights[i], dtype, specs[i].shape, place);
    data.push_back(weights[i].const_data_ptr());
    copies.push_back(on_host(weights[i]));
    host_data.push_back(copies.back().const_data_ptr());
  }
  const engine::Model checked(c, host_data, threads);
  return data;
}

std::optional<Tensor> on_host(const std::optional<Tensor>& t) {
  return t ? std::optional(ops::on_host(*t)) : std::nullopt;
}

std::tuple<Tensor, Tensor, Tensor> encode_cuda(std::vector<Tensor> weights, std::vector<int64_t> config,
                                               double norm_eps, Tensor items, std::optional<Tensor> times,
                                               std::optional<Tensor> actions, Tensor offsets, std::optional<Tensor> now,
                                               int64_t threads) {
  const engine::ModelConfig c = engine::ModelConfig::from_ints(config, static_cast<float>(norm_eps));
  const DeviceArguments on(items);
  const std::vector<const void*> data = check_weights(c, weights, on.place(), engine::check_threads(threads));
  const int64_t total = size_of("items", items, 1, 0);
  const int64_t batch = check_offsets("offsets", offsets, total);
  const engine::EventBatch events = {on.ints("items", items, {total}),
                                     on.ints("times", times, {total}),
                                     on.ints("actions", actions, {total}),
                                     on.ints("offsets", offsets, {batch + 1}),
                                     on.ints("now", now, {batch}),
                                     total,
                                     batch};
  const Tensor host_items = ops::on_host(items);
  const std::optional<Tensor> host_actions = on_host(actions);
  const Tensor host_offsets = ops::on_host(offsets);
  engine::EventBatch checked = events;
  checked.items = ints("items", host_items, {total});
  checked.actions = ints("actions", host_actions, {total});
  checked.offsets = ints("offsets", host_offsets, {batch + 1});
  engine::check_events(c, checked);
  Tensor fused = new_floats(items, {batch, c.dim});
  Tensor interests = new_floats(items, {batch, c.num_interests(), c.dim});
  Tensor interest_weights = new_floats(items, {batch, c.num_interests()});
  Tensor packed = new_floats(items, {engine::device_model_size(c)});
  constexpr auto kInt = static_cast<int64_t>(sizeof(int64_t));
  Tensor workspace = new_ints(items, {engine::encode_workspace_size(c, total, batch) / kInt});
  const OnDevice device(items);
  engine::DeviceModel model;
  check_launch(engine::make_device_model(c, data, output(packed), device.stream, model));
  check_launch(engine::encode(model, events, workspace.mutable_data_ptr(),
                              {output(fused), output(interests), output(interest_weights)}, device.stream));
  return {fused, interests, interest_weights};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lsif, CUDA, m) { m.impl("encode", TORCH_BOX(&encode_cuda)); }

}  // namespace lsif::ops
