// The encoder on the device with a C interface, for bench/gpu_encode.py (ctypes). Built by tests/cuda/CMakeLists.txt.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <string>
#include <vector>

#include "engine/cuda_encode.h"
#include "kernels/cuda/user_states.h"

using lsif::cuda::StateSlots;
using lsif::engine::DeviceModel;
using lsif::engine::ModelConfig;
using lsif::engine::Precision;

#define LSIF_BENCH extern "C" __attribute__((visibility("default")))

namespace {

ModelConfig config_of(const int64_t* config) {
  return ModelConfig::from_ints({config, config + ModelConfig().to_ints().size()}, 1e-5f);
}

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

// Name and shape (0 past its end) of the model's tensor `index`; false if it has no more.
LSIF_BENCH bool lsif_weight(const int64_t* config, int64_t index, char* name, int64_t* shape) {
  const auto specs = lsif::engine::weight_specs(config_of(config));
  if (index >= static_cast<int64_t>(specs.size())) return false;
  const auto& spec = specs[static_cast<size_t>(index)];
  std::copy_n(spec.name.c_str(), spec.name.size() + 1, name);
  std::copy(spec.shape.begin(), spec.shape.end(), shape);
  return true;
}

LSIF_BENCH int64_t lsif_model_size(const int64_t* config, bool is_bf16) {
  return lsif::engine::device_model_size(config_of(config), is_bf16 ? Precision::kBfloat16 : Precision::kFloat32);
}

// Never freed. weights: addresses on the device; packed: lsif_model_size() floats there.
LSIF_BENCH DeviceModel* lsif_model(const int64_t* config, const void* const* weights, float* packed, bool is_bf16) {
  const ModelConfig c = config_of(config);
  const std::vector<const void*> data(weights, weights + lsif::engine::weight_specs(c).size());
  auto* model = new DeviceModel;
  const Precision precision = is_bf16 ? Precision::kBfloat16 : Precision::kFloat32;
  const cudaError_t error = lsif::engine::make_device_model(c, data, packed, nullptr, *model, precision);
  return error == cudaSuccess ? model : nullptr;
}

LSIF_BENCH int64_t lsif_encode_workspace_size(const DeviceModel* model, int64_t total, int64_t batch) {
  return lsif::engine::encode_workspace_size(model->config, total, batch);
}

// Returns a cudaError_t, as do all below.
LSIF_BENCH int lsif_encode(const DeviceModel* model, const int64_t* items, const int64_t* offsets, int64_t total,
                           int64_t batch, void* workspace, float* fused, float* interests, float* weights,
                           bool may_fuse, void* stream) {
  const lsif::engine::EventBatch events = {items, nullptr, nullptr, offsets, nullptr, total, batch};
  return lsif::engine::encode(*model, events, workspace, {fused, interests, weights}, stream_of(stream), may_fuse);
}

LSIF_BENCH int64_t lsif_state_size(const DeviceModel* model) {
  return lsif::cuda::device_state_size(lsif::engine::encoder_shape(model->config));
}

LSIF_BENCH int lsif_start_states(const DeviceModel* model, unsigned char* states, const int64_t* slots, int64_t batch,
                                 void* stream) {
  return lsif::cuda::start_states(lsif::engine::encoder_shape(model->config), {states, slots, batch},
                                  stream_of(stream));
}

LSIF_BENCH int lsif_append(const DeviceModel* model, unsigned char* states, const int64_t* slots, int64_t batch,
                           const int64_t* items, void* stream) {
  return lsif::cuda::append(lsif::engine::encoder_params(*model), {states, slots, batch}, items, nullptr, nullptr,
                            stream_of(stream));
}

LSIF_BENCH int lsif_encode_states(const DeviceModel* model, unsigned char* states, const int64_t* slots, int64_t batch,
                                  float* fused, float* interests, float* weights, void* stream) {
  return lsif::cuda::encode_states(lsif::engine::encoder_params(*model), {states, slots, batch}, nullptr, fused,
                                   interests, weights, stream_of(stream));
}
