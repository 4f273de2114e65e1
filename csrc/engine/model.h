// A model ready to run: its shape, and its weights packed for the kernels.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/block.h"
#include "kernels/embedding.h"
#include "kernels/interest_fusion.h"
#include "kernels/interest_pooling.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"

namespace lsif::engine {

enum class Block : int32_t { kHstu = 0, kTransformer = 1 };

// The fields of ModelConfig (python/lsif_sdk/config.py) that shape the computation of interests.
struct ModelConfig {
  int64_t num_items = 0;
  int64_t dim = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  Block block = Block::kHstu;
  Activation activation = Activation::kGelu;
  int64_t ffn_dim = 0;
  int64_t window = 0;
  int64_t num_long = 0;
  int64_t num_short = 0;
  int64_t short_window = 0;
  int64_t pooling_dim = 0;
  int64_t fusion_dim = 0;
  bool use_times = false;
  bool request_time = false;
  int64_t num_time_boundaries = 0;
  int64_t num_actions = 0;
  bool repeats = false;
  float norm_eps = 0;

  int64_t num_interests() const { return num_long + num_short + 1; }
  int64_t head_dim() const { return dim / num_heads; }

  // The fields above except norm_eps, in order of declaration: how a torch op passes a config.
  std::vector<int64_t> to_ints() const;
  static ModelConfig from_ints(const std::vector<int64_t>& values, float norm_eps);
};

// A tensor the model needs: those of docs/model.md, "Tensors of an artifact", without the catalogue's own.
struct WeightSpec {
  std::string name;
  std::vector<int64_t> shape;
  bool is_int64 = false;  // otherwise float32
};

std::vector<WeightSpec> weight_specs(const ModelConfig& config);

// data[i] points to the contiguous values of weight_specs(config)[i]; at most `threads` threads check them. Throws
// std::invalid_argument if the config is not supported or if weights are not finite or not in range; the message names
// the field or tensor.
void check_weights(const ModelConfig& config, const std::vector<const void*>& data, int threads);

// For a model that answers many requests.
inline constexpr int64_t kMostTableBytes = int64_t{64} << 20;

enum class Precision : int32_t { kFloat32 = 0, kBfloat16 = 1 };

// Throws unless name is "float32" or "bfloat16".
Precision precision_from(const std::string& name);

struct ModelOptions {
  int64_t most_table_bytes = 0;               // size limit of the input table; a larger table is not made
  Precision precision = Precision::kFloat32;  // of the products in the blocks' linear layers
};

inline constexpr int64_t kNumDistances = 16;  // buckets of the number of events since an event
inline constexpr int64_t kHoursPerWeek = 24 * 7;

// The bonus of items in the history (docs/model.md, 5). age and phase are null without use_times, all are without
// repeats.
struct RepeatParams {
  const float* gate;       // [dim]
  const float* gate_bias;  // [1]
  const float* distance;   // [kNumDistances]
  const float* age;        // [num_boundaries + 2]
  const float* phase;      // [kHoursPerWeek + 1]
  const int64_t* boundaries;
  int64_t num_boundaries;
};

struct Layer : BlockParams {
  // Only for a last transformer layer that computes neither keys nor values (docs/model.md, 2); one per head.
  std::vector<LinearParams> absorbed_keys;    // head_dim -> dim
  std::vector<LinearParams> absorbed_values;  // dim -> head_dim
  AttentionParams absorbed_attention;

  bool is_absorbed() const { return !absorbed_keys.empty(); }
};

// The kernels of a model (assemble.h).
struct ModelParts {
  EmbeddingParams embedding{};
  std::vector<Layer> layers;
  LayerNormParams norm{};
  InterestPoolingParams long_pooling{};
  LinearParams long_value{};
  InterestPoolingParams short_pooling{};
  InterestFusionParams fusion{};
};

// Borrows all weights except those of the linear layers, which it repacks; the caller keeps the memory alive and
// unchanged.
class Model {
 public:
  // Throws as check_weights does. Results are the same bits with and without the input table.
  Model(const ModelConfig& config, const std::vector<const void*>& data, int threads, const ModelOptions& options = {});
  // `before` with more items; only the new rows, if any, are checked. item_embedding: [num_items, dim], beginning with
  // the rows of `before`. All else is shared; the weights of `before` must stay alive for this model, too.
  Model(const Model& before, const float* item_embedding, int64_t num_items, int threads);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelConfig& config() const { return config_; }
  const EmbeddingParams& embedding() const { return parts_.embedding; }
  // The output of the first layer's `input` for every item; without actions and positions it depends only on the item.
  bool has_input_table() const { return input_table_.dim != 0; }
  const EmbeddingParams& input_table() const { return input_table_; }
  const std::vector<Layer>& layers() const { return parts_.layers; }
  const LayerNormParams& norm() const { return parts_.norm; }
  const InterestPoolingParams& long_pooling() const { return parts_.long_pooling; }
  const LinearParams& long_value() const { return parts_.long_value; }
  const InterestPoolingParams& short_pooling() const { return parts_.short_pooling; }
  const InterestFusionParams& fusion() const { return parts_.fusion; }
  const RepeatParams& repeats() const { return repeats_; }

 private:
  using Floats = std::shared_ptr<float>;  // 64-byte aligned
  // The input table shared by models that grew out of one another; each uses its first rows.
  struct SharedTable {
    Floats data;
    int64_t room;  // in rows
    std::atomic<int64_t> used;
  };
  struct Weights;
  static Floats allocate(int64_t size);
  LinearParams linear(const float* weight, const float* bias, int64_t in_dim, int64_t out_dim, Activation activation,
                      Precision precision);
  void absorb(Layer& layer, const float* input_weight);
  bool has_bf16_table() const;
  // Makes the table if it pays. Rows below `first` are taken from the existing table, if there is one.
  void make_input_table(int64_t first, int threads);

  ModelConfig config_;
  ModelOptions options_;
  ModelParts parts_;
  EmbeddingParams input_table_{};
  RepeatParams repeats_{};
  std::vector<Floats> packed_;
  std::shared_ptr<SharedTable> table_;
};

}  // namespace lsif::engine
