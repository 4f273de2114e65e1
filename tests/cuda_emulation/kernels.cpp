// The CUDA kernels, emulated, as a table of CPU kernels: the tests of these hold them against the same oracles. The
// threads of a block, and the blocks of a launch, run in another order at every call.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "fibers.h"
#include "guarded.h"
#include "kernels/cuda/launch.h"
#include "tables.h"

namespace lsif::cpu {

namespace {

void expect_success(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("a launch failed: error %d\n", static_cast<int>(error));
  std::abort();
}

// Scratch that ends at an unreadable page.
guarded::Array<float> scratch_of(int64_t size) { return guarded::Array<float>(size); }

void embedding(const EmbeddingParams& params, const int64_t* item, const int64_t* action, int64_t num_rows, float* y,
               int64_t y_stride) {
  emulated::take_next_order();
  expect_success(cuda::embedding(params, item, action, num_rows, y, y_stride, nullptr));
}

void layer_norm(const LayerNormParams& params, const float* x, int64_t x_stride, const float* gate, int64_t gate_stride,
                float* y, int64_t y_stride, int64_t num_rows) {
  emulated::take_next_order();
  expect_success(cuda::layer_norm(params, x, x_stride, gate, gate_stride, y, y_stride, num_rows, nullptr));
}

void linear(const LinearParams& params, const float* x, int64_t x_stride, const float* residual,
            int64_t residual_stride, float* y, int64_t y_stride, int64_t num_rows) {
  emulated::take_next_order();
  expect_success(cuda::linear(params, x, x_stride, residual, residual_stride, y, y_stride, num_rows, nullptr));
}

// The launcher answers all queries: those before first_query get some vectors, and their rows are left out. Before the
// sequence comes another one of one event, whose keys are never read.
void attention(const AttentionParams& params, const AttentionInput& input, int64_t first_query, float* y,
               int64_t y_stride, float*) {
  emulated::take_next_order();
  const int64_t dim = params.num_heads * params.head_dim;
  std::vector<float> q(static_cast<size_t>(input.seq_len * dim));
  guarded::Matrix all(input.seq_len, dim);
  for (int64_t i = first_query; i < input.seq_len; ++i) {
    std::copy_n(input.q + (i - first_query) * input.q_stride, dim, q.data() + i * dim);
  }
  AttentionInput rows = input;
  rows.q = q.data();
  rows.q_stride = dim;
  const int64_t offsets[] = {0, 0, input.seq_len, input.seq_len};
  expect_success(cuda::attention(params, rows, offsets, 3, all.data(), dim, nullptr));
  for (int64_t i = first_query; i < input.seq_len; ++i) {
    std::copy_n(all.row(i), dim, y + (i - first_query) * y_stride);
  }
}

void interest_pooling(const InterestPoolingParams& params, const float* x, int64_t x_stride, const int64_t* times,
                      int64_t newest_time, int64_t seq_len, float* y, float*) {
  emulated::take_next_order();
  guarded::Array<float> scratch = scratch_of(cuda::interest_pooling_scratch_size(params, seq_len));
  const int64_t offsets[] = {0, seq_len};
  expect_success(cuda::interest_pooling(params, x, x_stride, times, &newest_time, offsets, 1, seq_len, y,
                                        scratch.data(), nullptr));
}

void interest_fusion(const InterestFusionParams& params, const float* interests, float gap, float length,
                     float* weights, float* fused, float*) {
  emulated::take_next_order();
  guarded::Array<float> scratch = scratch_of(cuda::interest_fusion_scratch_size(params, 1));
  expect_success(cuda::interest_fusion(params, interests, &gap, &length, 1, weights, fused, scratch.data(), nullptr));
}

}  // namespace

const KernelTable& cuda_emulated_kernels() {
  static const KernelTable kernels = {"cuda",    embedding,        layer_norm,      linear,
                                      attention, interest_pooling, interest_fusion, nullptr};
  return kernels;
}

}  // namespace lsif::cpu
