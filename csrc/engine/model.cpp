#include "engine/model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <unordered_map>
#include <utility>

#include "engine/assemble.h"
#include "engine/float_rows.h"
#include "engine/refuse.h"
#include "engine/scratch.h"
#include "engine/thread_pool.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/types.h"

namespace lsif::engine {
namespace {

void check_boundaries(const std::string& name, const int64_t* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (values[i] >= 1 && (i == 0 || values[i] > values[i - 1])) continue;
    refuse(name, "strictly increasing values >= 1", std::to_string(values[i]) + " at position " + std::to_string(i));
  }
}

void check_decay(const std::string& name, const float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (!(values[i] >= 0)) refuse(name, "values >= 0", "a negative one");
  }
}

}  // namespace

void check_weights(const ModelConfig& config, const std::vector<const void*>& data, int threads) {
  const std::vector<WeightSpec> specs = weight_specs(config);
  if (data.size() != specs.size()) {
    refuse("weights", std::to_string(specs.size()) + " tensors", std::to_string(data.size()));
  }
  for (size_t i = 0; i < specs.size(); ++i) {
    const WeightSpec& spec = specs[i];
    if (data[i] == nullptr) refuse(spec.name, "a tensor", "none");
    if (spec.is_int64) {
      check_boundaries(spec.name, static_cast<const int64_t*>(data[i]), spec.shape[0]);
      continue;
    }
    const auto* values = static_cast<const float*>(data[i]);
    require_finite(spec.name, values, spec.shape, threads);
    if (spec.name == "long_pooling.decay") check_decay(spec.name, values, spec.shape[0]);
  }
}

Model::Floats Model::allocate(int64_t size) {
  constexpr std::align_val_t kAlignment{64};
  const size_t bytes = static_cast<size_t>(size) * sizeof(float);
  return {static_cast<float*>(::operator new[](bytes, kAlignment)),
          [](float* p) { ::operator delete[](p, kAlignment); }};
}

LinearParams Model::linear(const float* weight, const float* bias, int64_t in_dim, int64_t out_dim,
                           Activation activation, Precision precision) {
  LinearParams params = {nullptr, bias, in_dim, out_dim, activation};
  if (precision == Precision::kBfloat16) {
    const int64_t size = packed_bf16_size(in_dim, out_dim);
    packed_.push_back(allocate(size / 2));  // the number of bfloat16 values is even
    auto* packed = reinterpret_cast<uint16_t*>(packed_.back().get());
    pack_linear_bf16(weight, in_dim, out_dim, packed);
    params.packed_bf16 = packed;
  } else {
    packed_.push_back(allocate(packed_linear_size(in_dim, out_dim)));
    pack_linear(weight, in_dim, out_dim, packed_.back().get());
    params.packed = packed_.back().get();
  }
  return params;
}

// Keys and values of head h are K n_j + k and V n_j + v for the normalised rows n_j. A query's logit is q.(K n_j + k) =
// (K^T q).n_j + q.k; q.k is the same for all keys and cancels in the softmax. As the softmax weights p_j sum to 1,
// sum_j p_j (V n_j + v) = V (sum_j p_j n_j) + v.
void Model::absorb(Layer& layer, const float* input_weight) {
  const int64_t d = config_.dim;
  const int64_t head_dim = config_.head_dim();
  // The kernel divides by sqrt(d), the formula by sqrt(head_dim).
  const double scale = std::sqrt(static_cast<double>(config_.num_heads));
  std::vector<float> transposed(d * head_dim);
  for (int64_t h = 0; h < config_.num_heads; ++h) {
    const int64_t key = d + h * head_dim;
    const int64_t value = 2 * d + h * head_dim;
    for (int64_t i = 0; i < head_dim; ++i) {
      for (int64_t c = 0; c < d; ++c) {
        const auto weight = static_cast<double>(input_weight[(key + i) * d + c]);
        transposed[c * head_dim + i] = static_cast<float>(weight * scale);
      }
    }
    layer.absorbed_keys.push_back(
        linear(transposed.data(), nullptr, head_dim, d, Activation::kIdentity, options_.precision));
    layer.absorbed_values.push_back(linear(input_weight + value * d, layer.input.bias + value, d, head_dim,
                                           Activation::kIdentity, options_.precision));
  }
  layer.absorbed_attention = layer.attention;
  layer.absorbed_attention.head_dim = d;
  layer.absorbed_attention.shared_keys = true;
  layer.absorbed_attention.bf16 = false;  // few queries: laying out pairs costs more than it saves
}

// A transformer's attention rounds queries, keys and values anyway; hstu's gates stay float32.
bool Model::has_bf16_table() const {
  return options_.precision == Precision::kBfloat16 && config_.block == Block::kTransformer;
}

void Model::make_input_table(int64_t first, int threads) {
  constexpr int64_t kBlock = 256;
  constexpr int64_t kSpare = 8;  // spare capacity: one row per this many; untouched pages use no memory
  const Layer& layer = parts_.layers[0];
  const int64_t d = config_.dim;
  const int64_t width = layer.input.out_dim;
  const int64_t num_items = config_.num_items;
  const bool bf16 = has_bf16_table();
  const int64_t row_bytes = width * static_cast<int64_t>(bf16 ? sizeof(uint16_t) : sizeof(float));
  if (config_.num_actions > 0 || layer.is_absorbed() || num_items * row_bytes > options_.most_table_bytes) {
    table_.reset();
    input_table_ = {};
    return;
  }
  const std::shared_ptr<SharedTable> had = table_;
  if (had == nullptr) first = 0;
  int64_t used = first;
  if (had == nullptr || num_items > had->room || !had->used.compare_exchange_strong(used, num_items)) {
    const int64_t room = num_items + num_items / kSpare;
    table_.reset(new SharedTable{allocate(divide_up(room * row_bytes, sizeof(float))), room, {num_items}});
    if (first > 0) std::memcpy(table_->data.get(), had->data.get(), static_cast<size_t>(first * row_bytes));
  }
  float* table = table_->data.get();
  parallel_for(divide_up(num_items - first, kBlock), threads, [&](int64_t block) {
    const int64_t begin = first + block * kBlock;
    const int64_t rows = std::min(kBlock, num_items - begin);
    Scratch scratch;
    float* normed = scratch.floats(rows * d);
    cpu::kernels().layer_norm(layer.norm, parts_.embedding.items + begin * d, d, nullptr, 0, normed, d, rows);
    float* projected = bf16 ? scratch.floats(rows * width) : table + begin * width;
    cpu::kernels().linear(layer.input, normed, d, nullptr, 0, projected, width, rows);
    if (bf16) to_bfloat16(projected, rows * width, reinterpret_cast<uint16_t*>(table) + begin * width);
  });
  input_table_ = {bf16 ? nullptr : table, nullptr, width, bf16 ? reinterpret_cast<const uint16_t*>(table) : nullptr};
}

// The caller's tensors by name, as assemble.h asks for them.
struct Model::Weights {
  const float* floats(const std::string& name) const {
    const auto it = by_name.find(name);
    return it == by_name.end() ? nullptr : it->second;
  }

  const int64_t* ints(const std::string&) const { return boundaries; }

  LinearParams linear(const std::string& name, int64_t in_dim, int64_t out_dim, Activation activation,
                      bool is_in_block) {
    return model.linear(floats(name + ".weight"), floats(name + ".bias"), in_dim, out_dim, activation,
                        is_in_block ? model.options_.precision : Precision::kFloat32);
  }

  Model& model;
  std::unordered_map<std::string, const float*> by_name;
  const int64_t* boundaries = nullptr;
};

Model::Model(const ModelConfig& config, const std::vector<const void*>& data, int threads, const ModelOptions& options)
    : config_(config), options_(options) {
  check_weights(config, data, threads);
  const std::vector<WeightSpec> specs = weight_specs(config);
  Weights weights = {*this, {}};
  for (size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].is_int64) weights.boundaries = static_cast<const int64_t*>(data[i]);
    weights.by_name[specs[i].name] = static_cast<const float*>(data[i]);
  }
  parts_ = Assembler(config, weights).parts();
  for (Layer& layer : parts_.layers) layer.attention.bf16 = options_.precision == Precision::kBfloat16;
  const int64_t num_states = config.num_short > 0 ? config.short_window : 1;
  const bool saves_work = num_states * (config.num_heads - 1) < config.dim;
  if (config.block == Block::kTransformer && saves_work) {
    absorb(parts_.layers.back(), weights.floats("layers." + std::to_string(config.num_layers - 1) + ".input.weight"));
  }
  make_input_table(0, threads);
  repeats_ = {weights.floats("repeats.gate.weight"),
              weights.floats("repeats.gate.bias"),
              weights.floats("repeats.distance"),
              weights.floats("repeats.age"),
              weights.floats("repeats.phase"),
              weights.boundaries,
              config.num_time_boundaries};
}

Model::Model(const Model& before, const float* item_embedding, int64_t num_items, int threads)
    : config_(before.config_),
      options_(before.options_),
      parts_(before.parts_),
      input_table_(before.input_table_),
      repeats_(before.repeats_),
      packed_(before.packed_),
      table_(before.table_) {
  const int64_t had = config_.num_items;
  require(num_items >= had,
          "num_items: expected at least " + std::to_string(had) + ", got " + std::to_string(num_items));
  parts_.embedding.items = item_embedding;
  if (num_items == had) return;
  config_.num_items = num_items;
  const int64_t added[] = {num_items - had, config_.dim};
  require_finite("item_embedding, its new rows", item_embedding + had * config_.dim, added, threads);
  make_input_table(had, threads);
}

}  // namespace lsif::engine
