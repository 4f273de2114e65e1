// The CUDA kernels as a table of CPU kernels: the tests of these hold them against the same oracles. On a GPU, or
// emulated.
#include <algorithm>
#include <vector>

#include "device_array.h"
#include "device_linear.h"
#include "kernels/cuda/launch.h"
#include "tables.h"

namespace lsif::cpu {
namespace {

using device::Array;
using device::DeviceLinear;
using device::expect_success;

int64_t span(int64_t rows, int64_t columns, int64_t stride) { return rows == 0 ? 0 : (rows - 1) * stride + columns; }

void embedding(const EmbeddingParams& params, const int64_t* item, const int64_t* action, int64_t num_rows, float* y,
               int64_t y_stride) {
  const auto rows = [&](const int64_t* index) {
    return index == nullptr || num_rows == 0 ? 1 : *std::max_element(index, index + num_rows) + 1;
  };
  const Array<float> items(params.items, rows(item) * params.dim);
  const Array<float> actions(params.actions, rows(action) * params.dim);
  const Array<int64_t> item_rows(item, num_rows);
  const Array<int64_t> action_rows(action, num_rows);
  const Array<float> out(y, span(num_rows, params.dim, y_stride));
  const Array<uint16_t> items_bf16(params.items_bf16, rows(item) * params.dim);
  expect_success(cuda::embedding({items.data(), actions.data(), params.dim, items_bf16.data()}, item_rows.data(),
                                 action_rows.data(), num_rows, out.data(), y_stride, nullptr));
  out.copy_to(y);
}

void layer_norm(const LayerNormParams& params, const float* x, int64_t x_stride, const float* gate, int64_t gate_stride,
                float* y, int64_t y_stride, int64_t num_rows) {
  const Array<float> weight(params.weight, params.dim);
  const Array<float> bias(params.bias, params.dim);
  const Array<float> in(x, span(num_rows, params.dim, x_stride));
  const Array<float> gates(gate, span(num_rows, params.dim, gate_stride));
  const Array<float> other(y, span(num_rows, params.dim, y_stride));
  const Array<float>& out = x == y ? in : other;
  expect_success(cuda::layer_norm({weight.data(), bias.data(), params.dim, params.eps}, in.data(), x_stride,
                                  gates.data(), gate_stride, out.data(), y_stride, num_rows, nullptr));
  out.copy_to(y);
}

void linear(const LinearParams& params, const float* x, int64_t x_stride, const float* residual,
            int64_t residual_stride, float* y, int64_t y_stride, int64_t num_rows) {
  const DeviceLinear layer(params);
  const Array<float> in(x, span(num_rows, params.in_dim, x_stride));
  const Array<float> added(residual, span(num_rows, params.out_dim, residual_stride));
  const Array<float> other(y, span(num_rows, params.out_dim, y_stride));
  const Array<float>& out = residual == y ? added : other;
  expect_success(cuda::linear(layer.params, in.data(), x_stride, added.data(), residual_stride, out.data(), y_stride,
                              num_rows, nullptr));
  out.copy_to(y);
}

// The launcher answers all queries: those before first_query get some vectors, and their rows are left out. Before and
// after the sequence come empty ones.
void attention(const AttentionParams& params, const AttentionInput& input, int64_t first_query, float* y,
               int64_t y_stride, float*) {
  const int64_t dim = params.num_heads * params.head_dim;
  const int64_t key_dim = params.key_heads() * params.head_dim;
  std::vector<float> all(static_cast<size_t>(input.seq_len * dim));
  for (int64_t i = first_query; i < input.seq_len; ++i) {
    std::copy_n(input.q + (i - first_query) * input.q_stride, dim, all.data() + i * dim);
  }
  const int64_t offsets[] = {0, 0, input.seq_len, input.seq_len};
  const Array<float> q(all.data(), input.seq_len * dim);
  const Array<float> k(input.k, span(input.seq_len, key_dim, input.stride));
  const Array<float> v(input.v, span(input.seq_len, key_dim, input.stride));
  const Array<int64_t> times(input.times, input.seq_len);
  const Array<int64_t> query_times(input.query_times, input.seq_len);
  const Array<float> position_bias(params.position_bias, params.num_heads * params.window);
  const Array<float> time_bias(params.time_bias, params.num_heads * (params.num_time_boundaries + 2));
  const Array<int64_t> boundaries(params.time_boundaries, params.num_time_boundaries);
  const Array<int64_t> begins(offsets, 4);
  const Array<float> out(input.seq_len * dim);
  AttentionParams device_params = params;
  device_params.position_bias = position_bias.data();
  device_params.time_bias = time_bias.data();
  device_params.time_boundaries = boundaries.data();
  const AttentionInput rows = {q.data(),     k.data(),     v.data(),           dim,
                               input.stride, times.data(), query_times.data(), input.seq_len};
  expect_success(cuda::attention(device_params, rows, begins.data(), 3, out.data(), dim, nullptr));
  out.copy_to(all.data());
  for (int64_t i = first_query; i < input.seq_len; ++i) {
    std::copy_n(all.data() + i * dim, dim, y + (i - first_query) * y_stride);
  }
}

void interest_pooling(const InterestPoolingParams& params, const float* x, int64_t x_stride, const int64_t* times,
                      int64_t newest_time, int64_t seq_len, float* y, float*) {
  const int64_t dim = params.hidden.in_dim;
  const int64_t num_interests = params.logits.out_dim;
  const int64_t offsets[] = {0, seq_len};
  const DeviceLinear hidden(params.hidden);
  const DeviceLinear logits(params.logits);
  const Array<float> decay(params.decay, num_interests);
  const Array<float> rows(x, span(seq_len, dim, x_stride));
  const Array<int64_t> row_times(times, seq_len);
  const Array<int64_t> newest(&newest_time, 1);
  const Array<int64_t> begins(offsets, 2);
  const Array<float> out(num_interests * dim);
  const InterestPoolingParams device_params = {hidden.params, logits.params, decay.data()};
  const Array<float> scratch(cuda::interest_pooling_scratch_size(device_params, seq_len));
  expect_success(cuda::interest_pooling(device_params, rows.data(), x_stride, row_times.data(), newest.data(),
                                        begins.data(), 1, seq_len, out.data(), scratch.data(), nullptr));
  out.copy_to(y);
}

void interest_fusion(const InterestFusionParams& params, const float* interests, float gap, float length,
                     float* weights, float* fused, float*) {
  const DeviceLinear hidden(params.hidden);
  const DeviceLinear logits(params.logits);
  const InterestFusionParams device_params = {hidden.params, logits.params, params.num_interests, params.dim};
  const Array<float> vectors(interests, params.num_interests * params.dim);
  const Array<float> gaps(&gap, 1);
  const Array<float> lengths(&length, 1);
  const Array<float> out_weights(params.num_interests);
  const Array<float> out_fused(params.dim);
  const Array<float> scratch(cuda::interest_fusion_scratch_size(device_params, 1));
  expect_success(cuda::interest_fusion(device_params, vectors.data(), gaps.data(), lengths.data(), 1,
                                       out_weights.data(), out_fused.data(), scratch.data(), nullptr));
  out_weights.copy_to(weights);
  out_fused.copy_to(fused);
}

}  // namespace

const KernelTable& cuda_kernels() {
  static const KernelTable kernels = {"cuda",           embedding,       layer_norm, linear,  attention,
                                      interest_pooling, interest_fusion, nullptr,    nullptr, nullptr};
  return kernels;
}

}  // namespace lsif::cpu
