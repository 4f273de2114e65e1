// The whole encoder in one launch: one block of threads per user, or a cluster of blocks           (docs/cuda.md)
//
// Does what engine/encode.h does, for small models. Only the rows that the outputs depend on go through the blocks.
// Their activations stay in shared memory if there is room, otherwise in the workspace. A user's result does not depend
// on the rest of the batch or on where its activations are. Pointers and streams as in launch.h.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/block.h"
#include "kernels/cuda/launch.h"

namespace lsif::cuda {

inline constexpr int64_t kMostEncoderDim = 128;
inline constexpr int64_t kMostEncoderLayers = 8;
inline constexpr int64_t kMostEncoderWindow = 256;

// The fields of ModelConfig (engine/model.h) that determine how much memory a user needs.
struct EncoderShape {
  int64_t dim;
  int64_t num_layers;
  int64_t projected_dim;  // of BlockParams::input
  int64_t ffn_dim;        // 0 in hstu
  int64_t window;
  int64_t num_long;
  int64_t num_short;
  int64_t short_window;
  int64_t pooling_dim;
  int64_t fusion_dim;
  int64_t num_time_boundaries;

  constexpr int64_t num_interests() const { return num_long + num_short + 1; }
};

struct EncoderParams {
  EncoderShape shape;
  EmbeddingParams embedding;
  BlockParams blocks[kMostEncoderLayers];
  LayerNormParams norm;
  InterestPoolingParams long_pooling;  // if num_long > 0
  LinearParams long_value;
  InterestPoolingParams short_pooling;  // if num_short > 0
  InterestFusionParams fusion;
  bool use_times;
  bool request_time;  // whether histories.now is read
};

// Whether encode_users supports models of this shape on the current device. Nothing else matters, in particular not the
// batch.
bool encode_users_fits(const EncoderShape& shape);

// In bytes.
int64_t encode_users_workspace_size(const EncoderShape& shape, int64_t total, int64_t batch);

// items, actions (or null: all 0): [total]; fused: [batch, dim]; interests: [batch, num_interests, dim]; weights:
// [batch, num_interests]; workspace: 16-byte aligned. A history without events gives zeros.
cudaError_t encode_users(const EncoderParams& params, const Histories& histories, const int64_t* items,
                         const int64_t* actions, void* workspace, float* fused, float* interests, float* weights,
                         cudaStream_t stream);

}  // namespace lsif::cuda
