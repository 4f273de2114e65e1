#include "engine/cuda_encode.h"

#include <algorithm>
#include <string>
#include <unordered_map>

#include "engine/assemble.h"
#include "kernels/cuda/encode_users.h"
#include "kernels/cuda/launch.h"

namespace lsif::engine {
namespace {

// Runs steps in order until one fails.
class Steps {
 public:
  template <typename Launch>
  Steps& then(Launch launch) {
    if (error_ == cudaSuccess) error_ = launch();
    return *this;
  }

  cudaError_t error() const { return error_; }

 private:
  cudaError_t error_ = cudaSuccess;
};

// Hands out parts of a block of memory; without one, only counts their size.
class Arena {
 public:
  explicit Arena(void* memory) : memory_(static_cast<uint8_t*>(memory)) {}

  template <typename T>
  T* take(int64_t count) {
    T* begin = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + size_);
    size_ += (count * static_cast<int64_t>(sizeof(T)) + 15) / 16 * 16;
    return begin;
  }

  int64_t size() const { return size_; }

 private:
  uint8_t* memory_;
  int64_t size_ = 0;
};

// Packs linear layers one after the other; without a destination, only counts their floats.
class Packer {
 public:
  Packer(const ModelConfig& config, Precision precision, const std::vector<const void*>& data, float* packed,
         cudaStream_t stream)
      : precision_(precision), packed_(packed), stream_(stream) {
    const std::vector<WeightSpec> specs = weight_specs(config);
    for (size_t i = 0; i < specs.size(); ++i) data_[specs[i].name] = data.empty() ? nullptr : data[i];
  }

  const float* floats(const std::string& name) const {
    const auto it = data_.find(name);
    return it == data_.end() ? nullptr : static_cast<const float*>(it->second);
  }

  const int64_t* ints(const std::string& name) const { return reinterpret_cast<const int64_t*>(floats(name)); }

  LinearParams linear(const std::string& name, int64_t in_dim, int64_t out_dim, Activation activation,
                      bool is_in_block) {
    const float* weight = floats(name + ".weight");
    LinearParams params = {nullptr, floats(name + ".bias"), in_dim, out_dim, activation};
    if (is_in_block && precision_ == Precision::kBfloat16) {
      auto* place = reinterpret_cast<uint16_t*>(take(packed_bf16_size(in_dim, out_dim) / 2));
      steps_.then(
          [&] { return pack([&] { return cuda::pack_linear_bf16(weight, in_dim, out_dim, place, stream_); }); });
      params.packed_bf16 = place;
    } else {
      float* place = take(packed_linear_size(in_dim, out_dim));
      steps_.then([&] { return pack([&] { return cuda::pack_linear(weight, in_dim, out_dim, place, stream_); }); });
      params.packed = place;
    }
    return params;
  }

  int64_t size() const { return size_; }
  cudaError_t error() const { return steps_.error(); }

 private:
  float* take(int64_t count) {
    size_ += count;
    return packed_ == nullptr ? nullptr : packed_ + size_ - count;
  }

  template <typename Launch>
  cudaError_t pack(Launch launch) const {
    return packed_ == nullptr ? cudaSuccess : launch();
  }

  std::unordered_map<std::string, const void*> data_;
  Precision precision_;
  float* packed_;
  cudaStream_t stream_;
  int64_t size_ = 0;
  Steps steps_;
};

// The workspace of one call, divided into arrays.
struct Workspace {
  Workspace(const ModelConfig& c, int64_t total, int64_t batch, void* memory) : arena(memory) {
    query_times = arena.take<int64_t>(total);
    x = arena.take<float>(total * c.dim);
    normed = arena.take<float>(total * c.dim);
    mixed = arena.take<float>(total * c.dim);
    projected = arena.take<float>(total * (c.block == Block::kHstu ? 4 : 3) * c.dim);
    hidden = arena.take<float>(c.block == Block::kTransformer ? total * c.ffn_dim : 0);
    pooling = arena.take<float>(total * (c.pooling_dim + std::max(c.num_long, c.num_short)));
    pooled = arena.take<float>(batch * c.num_long * c.dim);
    long_interests = arena.take<float>(batch * c.num_long * c.dim);
    short_interests = arena.take<float>(batch * c.num_short * c.dim);
    gap = arena.take<float>(batch);
    length = arena.take<float>(batch);
    fusion = arena.take<float>(batch * (c.num_interests() * c.dim + kFusionContext + c.fusion_dim));
  }

  Arena arena;
  int64_t* query_times;    // [total]
  float* x;                // [total, dim]
  float* normed;           // [total, dim]
  float* mixed;            // [total, dim]
  float* projected;        // [total, 3 or 4 dim]
  float* hidden;           // [total, ffn_dim]
  float* pooling;          // interest_pooling's scratch
  float* pooled;           // [batch, num_long, dim]
  float* long_interests;   // [batch, num_long, dim]
  float* short_interests;  // [batch, num_short, dim]
  float* gap;              // [batch]
  float* length;           // [batch]
  float* fusion;           // interest_fusion's scratch
};

// x becomes the layer's result.
cudaError_t run_layer(const ModelConfig& c, const Layer& layer, const EventBatch& events, const int64_t* times,
                      const int64_t* query_times, const Workspace& w, cudaStream_t stream) {
  const int64_t d = c.dim;
  const int64_t rows = events.total;
  const int64_t width = layer.input.out_dim;
  const AttentionInput input = {w.projected, w.projected + d, w.projected + 2 * d, width,
                                width,       times,           query_times,         rows};
  Steps steps;
  steps.then([&] { return cuda::layer_norm(layer.norm, w.x, d, nullptr, 0, w.normed, d, rows, stream); })
      .then([&] { return cuda::linear(layer.input, w.normed, d, nullptr, 0, w.projected, width, rows, stream); })
      .then([&] { return cuda::attention(layer.attention, input, events.offsets, events.batch, w.mixed, d, stream); });
  if (c.block == Block::kHstu) {
    const float* gate = w.projected + 3 * d;
    steps.then([&] { return cuda::layer_norm(layer.output_norm, w.mixed, d, gate, width, w.mixed, d, rows, stream); });
  }
  steps.then([&] { return cuda::linear(layer.output, w.mixed, d, w.x, d, w.x, d, rows, stream); });
  if (c.block == Block::kHstu) return steps.error();
  return steps.then([&] { return cuda::layer_norm(layer.ffn_norm, w.x, d, nullptr, 0, w.normed, d, rows, stream); })
      .then([&] { return cuda::linear(layer.ffn_up, w.normed, d, nullptr, 0, w.hidden, c.ffn_dim, rows, stream); })
      .then([&] { return cuda::linear(layer.ffn_down, w.hidden, c.ffn_dim, w.x, d, w.x, d, rows, stream); })
      .error();
}

cudaError_t pool_long(const DeviceModel& model, const EventBatch& events, const Workspace& w, cudaStream_t stream) {
  const ModelConfig& c = model.config;
  if (c.num_long == 0) return cudaSuccess;
  const int64_t* times = c.use_times ? events.times : nullptr;
  return Steps()
      .then([&] {
        return cuda::interest_pooling(model.parts.long_pooling, w.x, c.dim, times, nullptr, events.offsets,
                                      events.batch, events.total, w.pooled, w.pooling, stream);
      })
      .then([&] {
        return cuda::linear(model.parts.long_value, w.pooled, c.dim, nullptr, 0, w.long_interests, c.dim,
                            events.batch * c.num_long, stream);
      })
      .error();
}

cudaError_t pool_short(const DeviceModel& model, const EventBatch& events, const Workspace& w, cudaStream_t stream) {
  const ModelConfig& c = model.config;
  if (c.num_short == 0) return cudaSuccess;
  return cuda::interest_pooling(model.parts.short_pooling, w.x, c.dim, nullptr, nullptr, events.offsets, events.batch,
                                events.total, w.short_interests, w.pooling, stream, c.short_window);
}

}  // namespace

int64_t device_model_size(const ModelConfig& config, Precision precision) {
  Packer packer(config, precision, {}, nullptr, nullptr);
  Assembler(config, packer).parts();
  return packer.size();
}

cudaError_t make_device_model(const ModelConfig& config, const std::vector<const void*>& data, float* packed,
                              cudaStream_t stream, DeviceModel& model, Precision precision) {
  Packer packer(config, precision, data, packed, stream);
  model = {config, precision, Assembler(config, packer).parts()};
  for (Layer& layer : model.parts.layers) layer.attention.bf16 = precision == Precision::kBfloat16;
  return packer.error();
}

cuda::EncoderShape encoder_shape(const ModelConfig& c) {
  const bool hstu = c.block == Block::kHstu;
  return {
      c.dim,          c.num_layers,  (hstu ? 4 : 3) * c.dim, hstu ? 0 : c.ffn_dim, c.window, c.num_long, c.num_short,
      c.short_window, c.pooling_dim, c.fusion_dim,           c.num_time_boundaries};
}

cuda::EncoderParams encoder_params(const DeviceModel& model) {
  const ModelConfig& c = model.config;
  const ModelParts& parts = model.parts;
  cuda::EncoderParams params = {encoder_shape(c), parts.embedding,     {},           parts.norm,  parts.long_pooling,
                                parts.long_value, parts.short_pooling, parts.fusion, c.use_times, c.request_time};
  const int64_t num_layers = std::min(c.num_layers, cuda::kMostEncoderLayers);
  std::copy_n(parts.layers.begin(), num_layers, params.blocks);
  return params;
}

int64_t encode_workspace_size(const ModelConfig& config, int64_t total, int64_t batch) {
  return std::max(Workspace(config, total, batch, nullptr).arena.size(),
                  cuda::encode_users_workspace_size(encoder_shape(config), total, batch));
}

cudaError_t encode(const DeviceModel& model, const EventBatch& events, void* workspace, const Encoded& out,
                   cudaStream_t stream, bool may_fuse) {
  const ModelConfig& c = model.config;
  const cuda::Histories histories = {events.offsets, events.times, c.request_time ? events.now : nullptr, events.batch,
                                     events.total};
  if (may_fuse && model.precision == Precision::kFloat32 && cuda::encode_users_fits(encoder_shape(c))) {
    return cuda::encode_users(encoder_params(model), histories, events.items, events.actions, workspace, out.fused,
                              out.interests, out.weights, stream);
  }
  const Workspace w(c, events.total, events.batch, workspace);
  const int64_t* times = c.use_times ? events.times : nullptr;
  const int64_t* query_times = times != nullptr && c.request_time ? w.query_times : times;
  Steps steps;
  steps
      .then([&] {
        return cuda::embedding(model.parts.embedding, events.items, events.actions, events.total, w.x, c.dim, stream);
      })
      .then([&] { return pool_long(model, events, w, stream); })
      .then([&] {
        return query_times == w.query_times ? cuda::query_times(histories, w.query_times, stream) : cudaSuccess;
      });
  for (const Layer& layer : model.parts.layers) {
    steps.then([&] { return run_layer(c, layer, events, times, query_times, w, stream); });
  }
  return steps
      .then(
          [&] { return cuda::layer_norm(model.parts.norm, w.x, c.dim, nullptr, 0, w.x, c.dim, events.total, stream); })
      .then([&] { return pool_short(model, events, w, stream); })
      .then([&] {
        const cuda::InterestParts parts = {w.long_interests, w.short_interests, w.x, c.num_long, c.num_short, c.dim};
        return cuda::gather_interests(histories, parts, out.interests, stream);
      })
      .then([&] { return cuda::fusion_context(histories, w.gap, w.length, stream); })
      .then([&] {
        return cuda::interest_fusion(model.parts.fusion, out.interests, w.gap, w.length, events.batch, out.weights,
                                     out.fused, w.fusion, stream);
      })
      .then([&] { return cuda::clear_empty(histories, out.weights, c.num_interests(), out.fused, c.dim, stream); })
      .error();
}

}  // namespace lsif::engine
