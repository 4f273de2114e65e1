#include "engine/blocks.h"

#include <algorithm>

#include "kernels/cpu/dispatch.h"

namespace lsif::engine {
namespace {

class BlockRunner {
 public:
  BlockRunner(const Model& model, const BlockRows& rows, float* x, Scratch& scratch)
      : model_(model), c_(model.config()), kernels_(cpu::kernels()), rows_(rows), scratch_(scratch), x_(x) {
    const Layer& layer = model.layers()[0];
    qkv_width_ = layer.input.out_dim;
    normed_ = scratch.floats(rows.count * c_.dim);
    qkv_ = scratch.floats(rows.count * qkv_width_);
    hidden_ = c_.block == Block::kTransformer ? scratch.floats(rows.count * c_.ffn_dim) : nullptr;
    attention_ = scratch.floats(attention_scratch_size(layer.attention, rows.count));
  }

  void run() {
    for (int64_t l = 0; l < c_.num_layers; ++l) {
      const Layer& layer = model_.layers()[l];
      // Reads rows in_first .. count - 1 and computes rows out_first .. count - 1.
      const int64_t in_first = first(l - 1);
      const int64_t out_first = first(l);
      if (layer.is_absorbed()) {
        norm_rows(layer, in_first);
        attend_normed(layer, in_first, out_first);
      } else {
        if (l == 0 && model_.has_input_table()) {
          kernels_.embedding(model_.input_table(), rows_.items + in_first, nullptr, rows_.count - in_first,
                             qkv_ + in_first * qkv_width_, qkv_width_);
        } else {
          norm_rows(layer, in_first);
          project(layer.input, in_first, out_first);
        }
        attend(layer, in_first, out_first);
      }
      finish(layer, out_first);
    }
  }

 private:
  // The first row whose state after layer l is needed.
  int64_t first(int64_t l) const {
    return std::max<int64_t>(0, rows_.count - rows_.num_states - (c_.num_layers - 1 - l) * (c_.window - 1));
  }

  void norm_rows(const Layer& layer, int64_t first_row) {
    const int64_t d = c_.dim;
    kernels_.layer_norm(layer.norm, x_ + first_row * d, d, nullptr, 0, normed_ + first_row * d, d,
                        rows_.count - first_row);
  }

  // Computes keys and values of the rows from in_first on; queries, and gates if the block has them, from out_first on.
  void project(const LinearParams& input, int64_t in_first, int64_t out_first) {
    const int64_t d = c_.dim;
    const auto columns = [&](int64_t first_column, int64_t count, int64_t row) {
      kernels_.linear(linear_slice(input, first_column, count), normed_ + row * d, d, nullptr, 0,
                      qkv_ + row * qkv_width_ + first_column, qkv_width_, rows_.count - row);
    };
    if (in_first == out_first || d % kLinearPanel != 0) return columns(0, input.out_dim, in_first);
    columns(0, d, out_first);
    columns(d, 2 * d, in_first);
    if (input.out_dim > 3 * d) columns(3 * d, input.out_dim - 3 * d, out_first);
  }

  AttentionInput attention_input(const float* q, int64_t q_stride, const float* k, const float* v, int64_t stride,
                                 int64_t in_first) const {
    return {q,
            k,
            v,
            q_stride,
            stride,
            rows_.times ? rows_.times + in_first : nullptr,
            rows_.query_times ? rows_.query_times + in_first : nullptr,
            rows_.count - in_first};
  }

  // The results overwrite the normalised rows, which are no longer needed.
  void attend(const Layer& layer, int64_t in_first, int64_t out_first) {
    const int64_t d = c_.dim;
    const float* base = qkv_ + in_first * qkv_width_;
    const AttentionInput input =
        attention_input(qkv_ + out_first * qkv_width_, qkv_width_, base + d, base + 2 * d, qkv_width_, in_first);
    kernels_.attention(layer.attention, input, out_first - in_first, normed_ + out_first * d, d, attention_);
  }

  // The same for an absorbed layer.
  void attend_normed(const Layer& layer, int64_t in_first, int64_t out_first) {
    const float* normed = normed_ + in_first * c_.dim;
    float* out = normed_ + out_first * c_.dim;
    attend_absorbed(c_, layer, out, attention_input(nullptr, 0, normed, normed, c_.dim, in_first),
                    rows_.count - out_first, out, scratch_);
  }

  void finish(const Layer& layer, int64_t first_row) {
    const float* gate = qkv_ + first_row * qkv_width_ + 3 * c_.dim;  // only in hstu
    finish_layer(c_, layer, normed_ + first_row * c_.dim, gate, qkv_width_, hidden_, x_ + first_row * c_.dim,
                 rows_.count - first_row);
  }

  const Model& model_;
  const ModelConfig& c_;
  const cpu::KernelTable& kernels_;
  const BlockRows rows_;
  Scratch& scratch_;
  float* x_;
  int64_t qkv_width_;
  float* normed_;  // [count, dim]
  float* qkv_;     // [count, qkv_width]
  float* hidden_;  // [count, ffn_dim]
  float* attention_;
};

}  // namespace

int64_t num_block_rows(const ModelConfig& c, int64_t seq_len, int64_t num_states) {
  return std::min(seq_len, num_states + c.num_layers * (c.window - 1));
}

void attend_absorbed(const ModelConfig& c, const Layer& layer, const float* normed, AttentionInput keys,
                     int64_t num_rows, float* y, Scratch& scratch) {
  const Scratch::Mark mark(scratch);
  const cpu::KernelTable& kernels = cpu::kernels();
  const int64_t d = c.dim;
  const int64_t width = c.num_heads * d;
  float* q = scratch.floats(num_rows * d);
  float* queries = scratch.floats(num_rows * width);
  float* mixed = scratch.floats(num_rows * width);
  float* attention = scratch.floats(attention_scratch_size(layer.absorbed_attention, keys.seq_len));
  kernels.linear(linear_slice(layer.input, 0, d), normed, d, nullptr, 0, q, d, num_rows);
  for (int64_t h = 0; h < c.num_heads; ++h) {
    kernels.linear(layer.absorbed_keys[h], q + h * c.head_dim(), d, nullptr, 0, queries + h * d, width, num_rows);
  }
  keys.q = queries;
  keys.q_stride = width;
  kernels.attention(layer.absorbed_attention, keys, keys.seq_len - num_rows, mixed, width, attention);
  for (int64_t h = 0; h < c.num_heads; ++h) {
    kernels.linear(layer.absorbed_values[h], mixed + h * d, width, nullptr, 0, y + h * c.head_dim(), d, num_rows);
  }
}

void finish_layer(const ModelConfig& c, const Layer& layer, float* mixed, const float* gate, int64_t gate_stride,
                  float* hidden, float* x, int64_t num_rows) {
  const cpu::KernelTable& kernels = cpu::kernels();
  const int64_t d = c.dim;
  if (c.block == Block::kHstu) {
    kernels.layer_norm(layer.output_norm, mixed, d, gate, gate_stride, mixed, d, num_rows);
    kernels.linear(layer.output, mixed, d, x, d, x, d, num_rows);
    return;
  }
  kernels.linear(layer.output, mixed, d, x, d, x, d, num_rows);
  kernels.layer_norm(layer.ffn_norm, x, d, nullptr, 0, mixed, d, num_rows);
  kernels.linear(layer.ffn_up, mixed, d, nullptr, 0, hidden, c.ffn_dim, num_rows);
  kernels.linear(layer.ffn_down, hidden, c.ffn_dim, x, d, x, d, num_rows);
}

void run_blocks(const Model& model, const BlockRows& rows, float* x, Scratch& scratch) {
  const Scratch::Mark mark(scratch);
  BlockRunner(model, rows, x, scratch).run();
}

}  // namespace lsif::engine
