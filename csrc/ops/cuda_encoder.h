// An encoder on a GPU as the ops have it: torch.ops.lsif.encode makes one at every call, lsif_kept keeps one.
#pragma once

#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "engine/cuda_encode.h"
#include "ops/cuda_arguments.h"
#include "ops/encoding.h"

namespace lsif::ops {

struct CudaEncoder {
  std::vector<Tensor> weights;  // which the model borrows, as it does what is packed
  Tensor packed;
  engine::DeviceModel model;
};

// Checks the weights on host copies, by the engine's own checks, and packs them in the stream of their device.
std::shared_ptr<CudaEncoder> make_encoder(std::vector<Tensor> weights, const std::vector<int64_t>& config,
                                          double norm_eps, engine::Precision precision, int64_t threads);

// Waits for nothing. Returns (fused, interests, weights).
std::tuple<Tensor, Tensor, Tensor> run_encoder(const CudaEncoder& encoder, const engine::EventBatch& events);

}  // namespace lsif::ops
