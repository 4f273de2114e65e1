#include "ops/encoding.h"

#include "engine/refuse.h"

namespace lsif::ops {

engine::EventBatch event_batch(const Tensor& items, const std::optional<Tensor>& times,
                               const std::optional<Tensor>& actions, const Tensor& offsets,
                               const std::optional<Tensor>& now, Place place) {
  const int64_t total = size_of("items", items, 1, 0);
  const int64_t batch = size_of("offsets", offsets, 1, 0) - 1;
  if (batch < 0) engine::refuse("offsets", "at least one value", "none");
  return {ints("items", items, {total}, place),
          ints("times", times, {total}, place),
          ints("actions", actions, {total}, place),
          ints("offsets", offsets, {batch + 1}, place),
          ints("now", now, {batch}, place),
          total,
          batch};
}

StateMemory state_memory(const Tensor& states, const Tensor& slots, int64_t state_size, Place place) {
  constexpr int64_t kAlignment = 16;
  check_tensor("states", states, ScalarType::Byte, {kAny, state_size}, place);
  auto* memory = static_cast<uint8_t*>(states.mutable_data_ptr());
  const auto past = reinterpret_cast<uintptr_t>(memory) % kAlignment;
  if (past != 0) engine::refuse("states", "memory at a multiple of 16 bytes", std::to_string(past) + " bytes past one");
  return {memory, ints("slots", slots, {kAny}, place), slots.size(0)};
}

engine::EventBatch single_events(const Tensor& items, const std::optional<Tensor>& times,
                                 const std::optional<Tensor>& actions, int64_t batch, Place place) {
  return {ints("items", items, {batch}, place),
          ints("times", times, {batch}, place),
          ints("actions", actions, {batch}, place),
          nullptr,
          nullptr,
          batch,
          batch};
}

Encoding::Encoding(const Tensor& like, const engine::ModelConfig& config, int64_t batch)
    : fused_(new_floats(like, {batch, config.dim})),
      interests_(new_floats(like, {batch, config.num_interests(), config.dim})),
      weights_(new_floats(like, {batch, config.num_interests()})) {}

engine::Encoded Encoding::out() {
  return {static_cast<float*>(fused_.mutable_data_ptr()), static_cast<float*>(interests_.mutable_data_ptr()),
          static_cast<float*>(weights_.mutable_data_ptr())};
}

}  // namespace lsif::ops
