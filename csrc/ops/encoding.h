// Events into the encoder and what comes out of it, as tensors: for lsif::encode and lsif_kept, on every device.
#pragma once

#include <optional>
#include <tuple>

#include "engine/encode.h"
#include "ops/checks.h"

namespace lsif::ops {

// Shapes, types and places are checked here, no values.
engine::EventBatch event_batch(const Tensor& items, const std::optional<Tensor>& times,
                               const std::optional<Tensor>& actions, const Tensor& offsets,
                               const std::optional<Tensor>& now, Place place = {});

// User states, one a slot, and the slots a call is about.
struct StateMemory {
  uint8_t* states;       // [slots, state_size]
  const int64_t* slots;  // [batch]
  int64_t batch;
};

StateMemory state_memory(const Tensor& states, const Tensor& slots, int64_t state_size, Place place = {});

// One event for each of `batch` users, without offsets.
engine::EventBatch single_events(const Tensor& items, const std::optional<Tensor>& times,
                                 const std::optional<Tensor>& actions, int64_t batch, Place place = {});

// New tensors for the results of `batch` users, on the device of `like`.
class Encoding {
 public:
  Encoding(const Tensor& like, const engine::ModelConfig& config, int64_t batch);

  engine::Encoded out();
  std::tuple<Tensor, Tensor, Tensor> tensors() const { return {fused_, interests_, weights_}; }

 private:
  Tensor fused_;
  Tensor interests_;
  Tensor weights_;
};

}  // namespace lsif::ops
