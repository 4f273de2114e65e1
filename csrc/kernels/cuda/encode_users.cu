#include <algorithm>

#include "kernels/cuda/encode_users.h"
#include "kernels/cuda/encoder_attention.cuh"
#include "kernels/cuda/encoder_fusion.cuh"
#include "kernels/cuda/encoder_pooling.cuh"
#include "kernels/cuda/fusion_context.cuh"
#include "kernels/cuda/layer_norm.cuh"

namespace lsif::cuda {
namespace {

// Floats of everything a user's block needs, multiples of 4.
struct EncoderSizes {
  int64_t scores;     // shared memory always, as the weights' stages
  int64_t user;       // of a user
  int64_t row;        // of a row of the blocks
  int64_t bucket;     // of a row, in floats
  int64_t most_rows;  // of the blocks
  int projected_stride;
};

constexpr int64_t round_up_to_4(int64_t n) { return (n + 3) / 4 * 4; }

EncoderSizes encoder_sizes(const EncoderShape& s) {
  EncoderSizes sizes = {};
  const int64_t num_states = s.num_short > 0 ? s.short_window : 1;
  const int64_t most_interests = std::max(s.num_long, s.num_short);
  const int64_t buffers = kPoolingRows * (padded_stride(s.dim) + padded_stride(s.pooling_dim) +
                                          padded_stride(most_interests));  // of the poolings
  sizes.most_rows = num_states + s.num_layers * (s.window - 1);
  sizes.scores = encoder_scores_size(s.window, sizes.most_rows);
  sizes.projected_stride = static_cast<int>(padded_stride(std::max(s.projected_dim, s.ffn_dim)));
  sizes.bucket = round_up_to_4(static_cast<int64_t>(sizeof(Bucket)) * s.window / 4 + 1);
  sizes.row = 2 * padded_stride(s.dim) + sizes.projected_stride + sizes.bucket;
  sizes.user = buffers + round_up_to_4(s.num_interests() * s.dim + kFusionContext) + padded_stride(s.fusion_dim) +
               2 * round_up_to_4(s.num_interests()) + 3 * round_up_to_4(most_interests) +
               s.num_long * padded_stride(s.dim);
  return sizes;
}

struct EncoderBatch {
  Histories histories;
  const int64_t* items;
  const int64_t* actions;
  float* workspace;
  float* fused;
  float* interests;
  float* weights;
  int64_t shared;  // floats of it that are left beside stages and scores
};

__device__ void embed(const EmbeddingParams& params, const int64_t* items, const int64_t* actions, int count,
                      const RowsView& x) {
  const int dim = static_cast<int>(params.dim);
  for (int i = static_cast<int>(threadIdx.x); i < count * dim; i += kEncoderThreads) {
    const int row = i / dim;
    const int column = i % dim;
    float value = params.items[items[row] * dim + column];
    if (params.actions != nullptr) value += params.actions[(actions == nullptr ? 0 : actions[row]) * dim + column];
    x.row(row)[column] = value;
  }
}

// Rows first .. count - 1, a warp each. A barrier before, none behind.
__device__ void norm_rows(const LayerNormParams& params, const RowsView& x, int first, int count, const float* gates,
                          int gates_stride, const RowsView& y) {
  for (int row = first + static_cast<int>(threadIdx.x) / kWarp; row < count; row += kEncoderWarps) {
    norm_row(params, x.row(row), gates == nullptr ? nullptr : gates + row * gates_stride, y.row(row));
  }
}

// One user, by all threads of a block.
struct UserEncoder {
  const EncoderParams& params;
  const EncoderBatch& batch;
  const EncoderSizes& sizes;
  int64_t user;
  int64_t begin;    // of its events
  int64_t seq_len;  // > 0
  float* scores;
  BlockArena arena;
  FusionBuffers fusion;
  float* pooling_state;
  int num_states;
  int num_rows;  // the newest, which go through the blocks

  __device__ int stride() const { return static_cast<int>(padded_stride(params.shape.dim)); }
  __device__ int64_t first_event() const { return begin + seq_len - num_rows; }
  __device__ const int64_t* actions_from(int64_t event) const {
    return batch.actions == nullptr ? nullptr : batch.actions + event;
  }

  __device__ void run() {
    const EncoderShape& s = params.shape;
    const int64_t wanted = s.num_short > 0 ? s.short_window : 1;
    num_states = static_cast<int>(seq_len < wanted ? seq_len : wanted);
    const int64_t reach = num_states + s.num_layers * (s.window - 1);
    num_rows = static_cast<int>(seq_len < reach ? seq_len : reach);
    const int64_t num_interests = s.num_interests();
    fusion.context = arena.take(num_interests * s.dim + kFusionContext);
    fusion.hidden = arena.take(padded_stride(s.fusion_dim));
    fusion.logits = arena.take(num_interests);
    fusion.weights = arena.take(num_interests);
    const int64_t most_interests = s.num_long > s.num_short ? s.num_long : s.num_short;
    pooling_state = arena.take(3 * round_up_to_4(most_interests));
    if (s.num_long > 0) pool_long();
    const RowsView x = run_blocks();
    if (s.num_short > 0) pool_short(x);
    finish(x);
  }

  __device__ PoolingBuffers pooling_buffers(BlockArena& free, int64_t num_interests) const {
    const int64_t count = round_up_to_4(num_interests);
    return {free.rows(kPoolingRows, static_cast<int>(padded_stride(params.shape.pooling_dim))),
            free.rows(kPoolingRows, static_cast<int>(padded_stride(num_interests))), pooling_state,
            pooling_state + count, pooling_state + 2 * count};
  }

  __device__ void pool_long() {
    const EncoderShape& s = params.shape;
    BlockArena free = arena;
    const RowsView pooled = free.rows(s.num_long, stride());
    const RowsView chunk = free.rows(kPoolingRows, stride());
    const PoolingBuffers buffers = pooling_buffers(free, s.num_long);
    const auto rows = [&](int64_t from, int n) {
      embed(params.embedding, batch.items + begin + from, actions_from(begin + from), n, chunk);
      return chunk;
    };
    PoolingTimes times = {nullptr, kUnknownTime};
    if (params.use_times && batch.histories.times != nullptr) {
      times = {batch.histories.times + begin, batch.histories.times[begin + seq_len - 1]};
    }
    block_pooling(params.long_pooling, seq_len, rows, times, buffers, pooled);
    block_linear(params.long_value, pooled, static_cast<int>(s.num_long),
                 {nullptr, 0, fusion.context, static_cast<int>(s.dim)});
  }

  // The first row whose state after layer l is needed.
  __device__ int first(int64_t l) const {
    const int64_t row = num_rows - num_states - (params.shape.num_layers - 1 - l) * (params.shape.window - 1);
    return static_cast<int>(row > 0 ? row : 0);
  }

  // The states, of which the last num_states are right. The arena keeps their memory.
  __device__ RowsView run_blocks() {
    const EncoderShape& s = params.shape;
    // What is read most comes first where shared memory is scarce. Where it is not, all but x is given back afterwards.
    BlockArena free = arena;
    const bool keeps_x = (sizes.row - sizes.bucket) * num_rows <= free.shared_left;
    RowsView x = {nullptr, stride()};
    if (keeps_x) x = arena.rows(num_rows, stride()), free = arena;
    const RowsView projected = free.rows(num_rows, sizes.projected_stride);
    const RowsView normed = free.rows(num_rows, stride());
    if (!keeps_x) x = free.rows(num_rows, stride());
    const bool is_timed = params.use_times && batch.histories.times != nullptr;
    auto* buckets = is_timed ? reinterpret_cast<Bucket*>(free.take(num_rows * sizes.bucket)) : nullptr;
    if (!keeps_x) arena = free;
    if (is_timed) find_buckets(buckets);
    embed(params.embedding, batch.items + first_event(), actions_from(first_event()), num_rows, x);
    for (int64_t l = 0; l < s.num_layers; ++l) {
      run_layer(params.blocks[l], first(l - 1), first(l), x, normed, projected, buckets);
    }
    norm_rows(params.norm, x, num_rows - num_states, num_rows, nullptr, 0, x);
    __syncthreads();
    return x;
  }

  __device__ void find_buckets(Bucket* buckets) const {
    const int64_t* times = batch.histories.times + first_event();
    const auto query_time = [&](int row) {
      if (!params.request_time) return times[row];
      if (row + 1 < num_rows) return times[row + 1];
      const int64_t now = batch.histories.now == nullptr ? kUnknownTime : batch.histories.now[user];
      return now == kUnknownTime ? times[row] : now;
    };
    block_buckets(params.blocks[0].attention, times, query_time, num_rows, buckets);
  }

  // Keys and values of the rows from in_first on; queries, and gates if the block has them, from out_first on.
  __device__ void project(const LinearParams& input, int in_first, int out_first, const RowsView& normed,
                          const RowsView& projected) const {
    const auto columns = [&](int64_t first_column, int64_t count, int row) {
      block_linear(linear_slice(input, first_column, count), {normed.row(row), normed.stride}, num_rows - row,
                   {nullptr, 0, projected.row(row) + first_column, projected.stride});
    };
    const int64_t d = params.shape.dim;
    if (in_first == out_first || d % kLinearPanel != 0) return columns(0, input.out_dim, in_first);
    columns(0, d, out_first);
    columns(d, 2 * d, in_first);
    if (input.out_dim > 3 * d) columns(3 * d, input.out_dim - 3 * d, out_first);
  }

  // Rows of x from in_first on are read, rows from out_first on become the layer's result.
  __device__ void run_layer(const BlockParams& block, int in_first, int out_first, const RowsView& x,
                            const RowsView& normed, const RowsView& projected, const Bucket* buckets) const {
    const int d = static_cast<int>(params.shape.dim);
    const bool is_hstu = block.attention.kind == AttentionKind::kSilu;
    __syncthreads();
    norm_rows(block.norm, x, in_first, num_rows, nullptr, 0, normed);
    project(block.input, in_first, out_first, normed, projected);
    const EncoderAttention attention = {projected.data, projected.data + d, projected.data + 2 * d, projected.stride,
                                        buckets};
    block_attention(block.attention, attention, out_first, num_rows, normed, scores);
    if (is_hstu) {
      norm_rows(block.output_norm, normed, out_first, num_rows, projected.data + 3 * d, projected.stride, normed);
    }
    const int count = num_rows - out_first;
    const RowsView mixed = {normed.row(out_first), normed.stride};
    const LinearOutput result = {x.row(out_first), x.stride, x.row(out_first), x.stride};
    block_linear(block.output, mixed, count, result);
    if (is_hstu) return;
    norm_rows(block.ffn_norm, x, out_first, num_rows, nullptr, 0, normed);
    const RowsView hidden = {projected.data, static_cast<int>(padded_stride(params.shape.ffn_dim))};
    block_linear(block.ffn_up, mixed, count, {nullptr, 0, hidden.data, hidden.stride});
    block_linear(block.ffn_down, hidden, count, result);
  }

  __device__ void pool_short(const RowsView& x) {
    BlockArena free = arena;
    const PoolingBuffers buffers = pooling_buffers(free, params.shape.num_short);
    const int dim = static_cast<int>(params.shape.dim);
    const int first_state = num_rows - num_states;
    const auto rows = [&](int64_t from, int) {
      return RowsView{x.row(first_state + static_cast<int>(from)), x.stride};
    };
    block_pooling(params.short_pooling, num_states, rows, {nullptr, kUnknownTime}, buffers,
                  {fusion.context + params.shape.num_long * dim, dim});
  }

  __device__ void finish(const RowsView& x) const {
    const int dim = static_cast<int>(params.shape.dim);
    const int thread = static_cast<int>(threadIdx.x);
    const int64_t num_interests = params.shape.num_interests();
    float* newest = fusion.context + (num_interests - 1) * dim;
    for (int c = thread; c < dim; c += kEncoderThreads) newest[c] = x.row(num_rows - 1)[c];
    if (thread == 0) {
      const Histories& h = batch.histories;
      const bool is_asked = params.request_time && h.times != nullptr && h.now != nullptr;
      newest[dim] = is_asked ? gap_feature(h.times[begin + seq_len - 1], h.now[user]) : 0.0f;
      newest[dim + 1] = length_feature(seq_len);
    }
    block_fusion(params.fusion, fusion, batch.fused + user * dim);
    for (int64_t i = thread; i < num_interests * dim; i += kEncoderThreads) {
      batch.interests[user * num_interests * dim + i] = fusion.context[i];
    }
    for (int64_t i = thread; i < num_interests; i += kEncoderThreads) {
      batch.weights[user * num_interests + i] = fusion.weights[i];
    }
  }
};

__device__ void clear(float* values, int64_t count) {
  for (int64_t i = threadIdx.x; i < count; i += kEncoderThreads) values[i] = 0.0f;
}

__global__ void __launch_bounds__(kEncoderThreads, 2)
    encode_users_kernel(const __grid_constant__ EncoderParams params, const __grid_constant__ EncoderBatch batch,
                        const __grid_constant__ EncoderSizes sizes) {
  const int64_t user = blockIdx.x;
  const int64_t begin = batch.histories.offsets[user];
  const int64_t seq_len = batch.histories.offsets[user + 1] - begin;
  const int64_t dim = params.shape.dim;
  const int64_t num_interests = params.shape.num_interests();
  if (seq_len == 0) {
    clear(batch.fused + user * dim, dim);
    clear(batch.interests + user * num_interests * dim, num_interests * dim);
    clear(batch.weights + user * num_interests, num_interests);
    return;
  }
  float* scores = weight_stages() + kStages * kStageFloats;
  float* own = batch.workspace + begin * sizes.row + user * sizes.user;
  UserEncoder encoder = {params, batch,   sizes,  user,
                         begin,  seq_len, scores, {scores + sizes.scores, batch.shared, own},
                         {},     nullptr, 0,      0};
  encoder.run();
}

}  // namespace

bool encode_users_fits(const EncoderShape& s) {
  if (s.dim > kMostEncoderDim || s.num_layers > kMostEncoderLayers || s.window > kMostEncoderWindow) return false;
  if (s.num_time_boundaries + 2 > int64_t{1} << (8 * sizeof(Bucket))) return false;
  constexpr int64_t kFloat = sizeof(float);
  return (kStages * kStageFloats + encoder_sizes(s).scores) * kFloat <= shared_memory_limit();
}

int64_t encode_users_workspace_size(const EncoderShape& shape, int64_t total, int64_t batch) {
  const EncoderSizes sizes = encoder_sizes(shape);
  return static_cast<int64_t>(sizeof(float)) * (total * sizes.row + batch * sizes.user);
}

cudaError_t encode_users(const EncoderParams& params, const Histories& histories, const int64_t* items,
                         const int64_t* actions, void* workspace, float* fused, float* interests, float* weights,
                         cudaStream_t stream) {
  const EncoderSizes sizes = encoder_sizes(params.shape);
  constexpr int64_t kFloat = sizeof(float);
  const int64_t fixed = kStages * kStageFloats + sizes.scores;
  const int64_t rows = std::min(histories.total, sizes.most_rows);  // no user has more
  const int64_t wanted = sizes.user + rows * sizes.row;
  const int64_t shared = std::min(wanted, shared_memory_limit() / kFloat - fixed) / 4 * 4;
  const EncoderBatch batch = {histories, items,     actions, static_cast<float*>(workspace),
                              fused,     interests, weights, shared};
  return launch_shared(encode_users_kernel, histories.batch, kEncoderThreads, (fixed + shared) * kFloat, stream, params,
                       batch, sizes);
}

}  // namespace lsif::cuda
