// What one block of threads of encode_users.cu does, each part in a kernel of its own: as a table of CPU kernels, so
// that the tests of these hold it against the same oracles.
#include <algorithm>
#include <vector>

#include "device_array.h"
#include "device_linear.h"
#include "kernels/cuda/encoder_attention.cuh"
#include "kernels/cuda/encoder_fusion.cuh"
#include "kernels/cuda/encoder_pooling.cuh"
#include "kernels/cuda/encoder_rows.cuh"
#include "tables.h"

namespace lsif::cuda::parts {
namespace {

using device::Array;
using device::DeviceLinear;
using device::expect_success;

constexpr int64_t kScratchBytes = kLinearScratch * static_cast<int64_t>(sizeof(float));

// Rows on the device, laid out as the block wants them.
class Rows {
 public:
  Rows(const float* x, int64_t stride, int64_t count, int64_t columns)
      : count_(count),
        columns_(columns),
        array_(padded(x, stride, count, columns).data(), count * padded_stride(columns)) {}

  RowsView view() const { return {array_.data(), static_cast<int>(padded_stride(columns_))}; }

  void copy_to(float* x, int64_t stride) const {
    const int64_t padded = padded_stride(columns_);
    std::vector<float> all(count_ * padded);
    array_.copy_to(all.data());
    for (int64_t r = 0; r < count_; ++r) std::copy_n(all.data() + r * padded, columns_, x + r * stride);
  }

 private:
  static std::vector<float> padded(const float* x, int64_t stride, int64_t count, int64_t columns) {
    std::vector<float> all(count * padded_stride(columns));
    for (int64_t r = 0; r < count && x != nullptr; ++r) {
      std::copy_n(x + r * stride, columns, all.data() + r * padded_stride(columns));
    }
    return all;
  }

  int64_t count_;
  int64_t columns_;
  Array<float> array_;
};

__global__ void __launch_bounds__(kEncoderThreads)
    norm_kernel(LayerNormParams params, RowsView x, int count, RowsView gates, RowsView y) {
  norm_rows(params, x, 0, count, gates.data, gates.stride, y);
}

void layer_norm(const LayerNormParams& params, const float* x, int64_t x_stride, const float* gate, int64_t gate_stride,
                float* y, int64_t y_stride, int64_t num_rows) {
  const Array<float> weight(params.weight, params.dim);
  const Array<float> bias(params.bias, params.dim);
  const Rows in(x, x_stride, num_rows, params.dim);
  const Rows gates(gate, gate_stride, num_rows, params.dim);
  const Rows other(nullptr, 0, num_rows, params.dim);
  const Rows& out = x == y ? in : other;
  const RowsView gates_view = {gate == nullptr ? nullptr : gates.view().data, gates.view().stride};
  expect_success(launch(norm_kernel, 1, kEncoderThreads, nullptr,
                        LayerNormParams{weight.data(), bias.data(), params.dim, params.eps}, in.view(),
                        static_cast<int>(num_rows), gates_view, out.view()));
  out.copy_to(y, y_stride);
}

// Rows in shared memory are read in another way (are_whole_steps), and there the encoder has them, where they fit.
constexpr int64_t kSharedRowsBytes = 64 << 10;

__global__ void __launch_bounds__(kEncoderThreads)
    linear_kernel(LinearParams params, RowsView x, int count, LinearOutput out, bool is_shared) {
  if (is_shared) {
    float* copy = linear_scratch() + kLinearScratch;
    for (int i = static_cast<int>(threadIdx.x); i < count * x.stride; i += kEncoderThreads) copy[i] = x.data[i];
    __syncthreads();
    x.data = copy;
  }
  block_linear(params, x, count, out);
}

void linear(const LinearParams& params, const float* x, int64_t x_stride, const float* residual,
            int64_t residual_stride, float* y, int64_t y_stride, int64_t num_rows) {
  if (num_rows == 0) return;
  // The encoder's layers are float32.
  if (params.packed_bf16 != nullptr) {
    return cpu::cuda_kernels().linear(params, x, x_stride, residual, residual_stride, y, y_stride, num_rows);
  }
  const DeviceLinear layer(params);
  const Rows in(x, x_stride, num_rows, params.in_dim);
  const Rows added(residual, residual_stride, num_rows, params.out_dim);
  const Rows other(y, y_stride, num_rows, params.out_dim);
  const Rows& out = residual == y ? added : other;
  const LinearOutput output = {residual == nullptr ? nullptr : added.view().data, added.view().stride, out.view().data,
                               out.view().stride};
  const int64_t bytes = num_rows * in.view().stride * static_cast<int64_t>(sizeof(float));
  const bool is_shared = bytes <= kSharedRowsBytes;
  expect_success(launch_shared(linear_kernel, 1, kEncoderThreads, kScratchBytes + (is_shared ? bytes : 0), nullptr,
                               layer.params, in.view(), static_cast<int>(num_rows), output, is_shared));
  out.copy_to(y, y_stride);
}

__global__ void __launch_bounds__(kEncoderThreads)
    attention_kernel(AttentionParams params, EncoderAttention input, const int64_t* times, const int64_t* query_times,
                     Bucket* buckets, int first_query, int count, RowsView y) {
  const auto query_time = [&](int row) { return query_times[row]; };
  if (buckets != nullptr) block_buckets(params, times, query_time, 0, count, buckets);
  input.buckets = buckets;
  block_attention(params, input, first_query, count, y, linear_scratch(), KeyRoom{nullptr, 0});
}

void attention(const AttentionParams& params, const AttentionInput& input, int64_t first_query, float* y,
               int64_t y_stride, float*) {
  const int64_t dim = params.num_heads * params.head_dim;
  const int64_t key_dim = params.key_heads() * params.head_dim;
  const int64_t count = input.seq_len;
  const int64_t num_queries = count - first_query;
  if (num_queries <= 0) return;
  const int64_t width = dim + 2 * key_dim;  // queries, keys and values side by side, as in the encoder
  std::vector<float> all(count * width);
  for (int64_t i = 0; i < count; ++i) {
    if (i >= first_query) std::copy_n(input.q + (i - first_query) * input.q_stride, dim, all.data() + i * width);
    std::copy_n(input.k + i * input.stride, key_dim, all.data() + i * width + dim);
    std::copy_n(input.v + i * input.stride, key_dim, all.data() + i * width + dim + key_dim);
  }
  const Rows rows(all.data(), width, count, width);
  const Rows out(nullptr, 0, count, dim);
  const Array<int64_t> times(input.times, count);
  const Array<int64_t> query_times(input.query_times, count);
  const Array<float> position_bias(params.position_bias, params.num_heads * params.window);
  const Array<float> time_bias(params.time_bias, params.num_heads * (params.num_time_boundaries + 2));
  const Array<int64_t> boundaries(params.time_boundaries, params.num_time_boundaries);
  const Array<Bucket> buckets(count * params.window);
  AttentionParams device_params = params;
  device_params.position_bias = position_bias.data();
  device_params.time_bias = time_bias.data();
  device_params.time_boundaries = boundaries.data();
  const float* base = rows.view().data;
  const EncoderAttention rows_of = {base,   base + dim, base + dim + key_dim, rows.view().stride, rows.view().stride,
                                    nullptr};
  const bool is_timed = input.times != nullptr && params.time_bias != nullptr;
  const int64_t shared = encoder_scores_size(params.window, count) * static_cast<int64_t>(sizeof(float));
  expect_success(launch_shared(attention_kernel, 1, kEncoderThreads, shared, nullptr, device_params, rows_of,
                               times.data(), query_times.data(), is_timed ? buckets.data() : nullptr,
                               static_cast<int>(first_query), static_cast<int>(count), out.view()));
  std::vector<float> result(count * dim);
  out.copy_to(result.data(), dim);
  for (int64_t i = first_query; i < count; ++i) {
    std::copy_n(result.data() + i * dim, dim, y + (i - first_query) * y_stride);
  }
}

__global__ void __launch_bounds__(kEncoderThreads)
    pooling_kernel(InterestPoolingParams params, RowsView x, int64_t count, PoolingTimes times, PoolingBuffers buffers,
                   RowsView y) {
  const auto rows = [&](int64_t begin, int) { return RowsView{x.row(static_cast<int>(begin)), x.stride}; };
  block_pooling(params, count, rows, times, buffers, y);
}

void interest_pooling(const InterestPoolingParams& params, const float* x, int64_t x_stride, const int64_t* times,
                      int64_t newest_time, int64_t seq_len, float* y, float*) {
  const int64_t dim = params.hidden.in_dim;
  const int64_t num_interests = params.logits.out_dim;
  const DeviceLinear hidden(params.hidden);
  const DeviceLinear logits(params.logits);
  const Array<float> decay(params.decay, num_interests);
  const Rows rows(x, x_stride, seq_len, dim);
  const Array<int64_t> row_times(times, seq_len);
  const Rows hidden_rows(nullptr, 0, kPoolingRows, params.hidden.out_dim);
  const Rows logit_rows(nullptr, 0, kPoolingRows, num_interests);
  const Array<float> state(3 * num_interests);
  const Rows out(nullptr, 0, num_interests, dim);
  const InterestPoolingParams device_params = {hidden.params, logits.params, decay.data()};
  const PoolingBuffers buffers = {hidden_rows.view(), logit_rows.view(), state.data(), state.data() + num_interests,
                                  state.data() + 2 * num_interests};
  expect_success(launch_shared(pooling_kernel, 1, kEncoderThreads, kScratchBytes, nullptr, device_params, rows.view(),
                               seq_len, PoolingTimes{row_times.data(), newest_time}, buffers, out.view()));
  out.copy_to(y, dim);
}

__global__ void __launch_bounds__(kEncoderThreads)
    fusion_kernel(InterestFusionParams params, FusionBuffers buffers, float* fused) {
  block_fusion(params, buffers, fused);
}

void interest_fusion(const InterestFusionParams& params, const float* interests, float gap, float length,
                     float* weights, float* fused, float*) {
  const int64_t size = params.num_interests * params.dim;
  const DeviceLinear hidden(params.hidden);
  const DeviceLinear logits(params.logits);
  const InterestFusionParams device_params = {hidden.params, logits.params, params.num_interests, params.dim};
  std::vector<float> context(interests, interests + size);
  context.insert(context.end(), {gap, length, 0.0f});
  const Rows input(context.data(), size + kFusionContext, 1, size + kFusionContext);
  const Rows hidden_row(nullptr, 0, 1, params.hidden.out_dim);
  const Array<float> logit_row(params.num_interests);
  const Array<float> out_weights(params.num_interests);
  const Array<float> out_fused(params.dim);
  const FusionBuffers buffers = {input.view().data, hidden_row.view().data, logit_row.data(), out_weights.data()};
  expect_success(launch_shared(fusion_kernel, 1, kEncoderThreads, kScratchBytes, nullptr, device_params, buffers,
                               out_fused.data()));
  out_weights.copy_to(weights);
  out_fused.copy_to(fused);
}

}  // namespace
}  // namespace lsif::cuda::parts

namespace lsif::cpu {

const KernelTable& cuda_encoder_kernels() {
  static const KernelTable kernels = {"cuda_encoder",
                                      cuda_kernels().embedding,
                                      cuda::parts::layer_norm,
                                      cuda::parts::linear,
                                      cuda::parts::attention,
                                      cuda::parts::interest_pooling,
                                      cuda::parts::interest_fusion,
                                      nullptr,
                                      nullptr,
                                      nullptr};
  return kernels;
}

}  // namespace lsif::cpu
