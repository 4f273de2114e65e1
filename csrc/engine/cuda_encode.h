// engine/encode.h on a GPU: the same steps, built from the launchers in kernels/cuda/launch.h         (docs/cuda.md)
//
// Pointers to weights, events, workspace and results are all to device memory. Nothing is allocated or waited for, so
// the work can be captured in a CUDA graph. A user's result does not depend on the rest of the batch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

#include "engine/encode.h"
#include "engine/model.h"
#include "kernels/cuda/encode_users.h"

namespace lsif::engine {

// A Model whose weights are in device memory.
struct DeviceModel {
  ModelConfig config;
  Precision precision;  // of the products in the blocks
  ModelParts parts;     // without absorbed layers
};

// Size of the packed weights, in floats.
int64_t device_model_size(const ModelConfig& config, Precision precision = Precision::kFloat32);

// data[i] points to the values of weight_specs(config)[i]. The caller has checked them and keeps them and `packed`
// alive. packed: device_model_size() floats, 64-byte aligned, filled on the stream.
cudaError_t make_device_model(const ModelConfig& config, const std::vector<const void*>& data, float* packed,
                              cudaStream_t stream, DeviceModel& model, Precision precision = Precision::kFloat32);

// The model as kernels/cuda/encode_users.h and user_states.h take it, for float32 models whose shape they support.
cuda::EncoderShape encoder_shape(const ModelConfig& config);
cuda::EncoderParams encoder_params(const DeviceModel& model);

// Bytes of workspace; the workspace must be 16-byte aligned.
int64_t encode_workspace_size(const ModelConfig& config, int64_t total, int64_t batch);

// events have passed check_events. Float32 models that fit run in one launch (kernels/cuda/encode_users.h), unless
// may_fuse is false.
cudaError_t encode(const DeviceModel& model, const EventBatch& events, void* workspace, const Encoded& out,
                   cudaStream_t stream, bool may_fuse = true);

}  // namespace lsif::engine
