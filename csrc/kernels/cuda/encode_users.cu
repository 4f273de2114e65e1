#include <algorithm>

#include "kernels/cuda/encode_users.h"
#include "kernels/cuda/encoder_attention.cuh"
#include "kernels/cuda/encoder_user.cuh"

namespace lsif::cuda {
namespace {

// Floats of what a user's block needs, multiples of 4.
struct EncoderSizes {
  int64_t scores;     // shared memory always, as the weights' stages
  int64_t user;       // of a user
  int64_t row;        // of a row of the blocks
  int64_t bucket;     // of a row, of that its buckets
  int64_t most_rows;  // of the blocks
  int projected_stride;
};

EncoderSizes encoder_sizes(const EncoderShape& s) {
  EncoderSizes sizes = {};
  sizes.most_rows = kept_states(s) + s.num_layers * (s.window - 1);
  sizes.scores = encoder_scores_size(s.window, sizes.most_rows);
  sizes.projected_stride = static_cast<int>(padded_stride(std::max(s.projected_dim, s.ffn_dim)));
  sizes.bucket = round_up_to_4(static_cast<int64_t>(sizeof(Bucket)) * s.window / 4 + 1);
  sizes.row = 2 * padded_stride(s.dim) + sizes.projected_stride + sizes.bucket;
  sizes.user = interests_size(s);
  return sizes;
}

struct EncoderBatch {
  Histories histories;
  const int64_t* items;
  const int64_t* actions;
  float* workspace;
  EncoderOutputs out;
  int64_t shared;  // floats of it that are left beside stages and scores
};

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
  int num_states;
  int num_rows;  // the newest, which go through the blocks

  __device__ int stride() const { return static_cast<int>(padded_stride(params.shape.dim)); }
  __device__ const int64_t* times() const { return batch.histories.times; }
  __device__ int64_t now() const { return batch.histories.now == nullptr ? kUnknownTime : batch.histories.now[user]; }

  __device__ void run() {
    const EncoderShape& s = params.shape;
    num_states = static_cast<int>(seq_len < kept_states(s) ? seq_len : kept_states(s));
    const int64_t reach = num_states + s.num_layers * (s.window - 1);
    num_rows = static_cast<int>(seq_len < reach ? seq_len : reach);
    const UserInterests interests(params, arena);
    if (s.num_long > 0) pool_long(interests);
    const RowsView x = run_blocks();
    const int first_state = num_rows - num_states;
    if (s.num_short > 0) {
      const auto rows = [&](int64_t from, int) {
        return RowsView{x.row(first_state + static_cast<int>(from)), x.stride};
      };
      interests.add_short(num_states, rows, arena);
    }
    const int64_t newest_time = times() == nullptr ? kUnknownTime : times()[begin + seq_len - 1];
    interests.fuse(x.row(num_rows - 1), seq_len, newest_time, now(), outputs_of(s, batch.out, user));
  }

  __device__ void embed_events(int64_t from, int count, const RowsView& x) const {
    const auto item = [&](int row) { return batch.items[from + row]; };
    const auto action = [&](int row) { return batch.actions == nullptr ? 0 : batch.actions[from + row]; };
    embed(params.embedding, item, action, count, x);
  }

  __device__ void pool_long(const UserInterests& interests) const {
    const int64_t num_long = params.shape.num_long;
    BlockArena free = arena;
    const RowsView pooled = free.rows(num_long, stride());
    const RowsView chunk = free.rows(kPoolingRows, stride());
    const PoolingBuffers buffers = interests.pooling_buffers(free, num_long);
    const auto rows = [&](int64_t from, int n) {
      embed_events(begin + from, n, chunk);
      return chunk;
    };
    PoolingTimes ages = {nullptr, kUnknownTime};
    if (params.use_times && times() != nullptr) ages = {times() + begin, times()[begin + seq_len - 1]};
    block_pooling(params.long_pooling, seq_len, rows, ages, buffers, pooled);
    interests.add_long(pooled);
  }

  // The first row whose state after layer l is needed.
  __device__ int first(int64_t l) const {
    const int64_t row = num_rows - num_states - (params.shape.num_layers - 1 - l) * (params.shape.window - 1);
    return static_cast<int>(row > 0 ? row : 0);
  }

  // The states, of which the last num_states are right. The arena keeps their memory.
  __device__ RowsView run_blocks() {
    // What is read most comes first where shared memory is scarce. Where it is not, all but x is given back afterwards.
    BlockArena free = arena;
    const bool keeps_x = (sizes.row - sizes.bucket) * num_rows <= free.shared_left;
    RowsView x = {nullptr, stride()};
    if (keeps_x) x = arena.rows(num_rows, stride()), free = arena;
    const RowsView projected = free.rows(num_rows, sizes.projected_stride);
    const RowsView normed = free.rows(num_rows, stride());
    if (!keeps_x) x = free.rows(num_rows, stride());
    const bool is_timed = params.use_times && times() != nullptr;
    auto* buckets = is_timed ? reinterpret_cast<Bucket*>(free.take(num_rows * sizes.bucket)) : nullptr;
    if (!keeps_x) arena = free;
    const int64_t first_event = begin + seq_len - num_rows;
    if (is_timed) find_buckets(times() + first_event, buckets);
    embed_events(first_event, num_rows, x);
    for (int64_t l = 0; l < params.shape.num_layers; ++l) {
      run_layer(params.blocks[l], first(l - 1), first(l), x, normed, projected, buckets);
    }
    norm_rows(params.norm, x, num_rows - num_states, num_rows, nullptr, 0, x);
    __syncthreads();
    return x;
  }

  __device__ void find_buckets(const int64_t* row_times, Bucket* buckets) const {
    const auto query_time = [&](int row) {
      if (!params.request_time) return row_times[row];
      if (row + 1 < num_rows) return row_times[row + 1];
      return now() == kUnknownTime ? row_times[row] : now();
    };
    block_buckets(params.blocks[0].attention, row_times, query_time, num_rows, buckets);
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
    __syncthreads();
    norm_rows(block.norm, x, in_first, num_rows, nullptr, 0, normed);
    project(block.input, in_first, out_first, normed, projected);
    const EncoderAttention attention = {projected.data, projected.data + d, projected.data + 2 * d, projected.stride,
                                        buckets};
    block_attention(block.attention, attention, out_first, num_rows, normed, scores);
    const auto from = [&](const RowsView& rows) { return RowsView{rows.row(out_first), rows.stride}; };
    finish_layer(params.shape, block, from(x), from(normed), from(projected), num_rows - out_first);
  }
};

__global__ void __launch_bounds__(kEncoderThreads, 2)
    encode_users_kernel(const __grid_constant__ EncoderParams params, const __grid_constant__ EncoderBatch batch,
                        const __grid_constant__ EncoderSizes sizes) {
  const int64_t user = blockIdx.x;
  const int64_t begin = batch.histories.offsets[user];
  const int64_t seq_len = batch.histories.offsets[user + 1] - begin;
  if (seq_len == 0) return clear_outputs(params.shape, outputs_of(params.shape, batch.out, user));
  float* scores = partial_sums() + kPartialFloats;
  float* own = batch.workspace + begin * sizes.row + user * sizes.user;
  const BlockArena arena = {scores + sizes.scores, batch.shared, own};
  UserEncoder encoder = {params, batch, sizes, user, begin, seq_len, scores, arena, 0, 0};
  encoder.run();
}

}  // namespace

bool encode_users_fits(const EncoderShape& s) {
  if (s.dim > kMostEncoderDim || s.num_layers > kMostEncoderLayers || s.window > kMostEncoderWindow) return false;
  if (s.num_time_boundaries + 2 > int64_t{1} << (8 * sizeof(Bucket))) return false;
  constexpr int64_t kFloat = sizeof(float);
  return (kPartialFloats + encoder_sizes(s).scores) * kFloat <= shared_memory_limit();
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
  const int64_t fixed = kPartialFloats + sizes.scores;
  const int64_t rows = std::min(histories.total, sizes.most_rows);  // no user has more
  const int64_t wanted = sizes.user + rows * sizes.row;
  const int64_t shared = std::min(wanted, shared_memory_limit() / kFloat - fixed) / 4 * 4;
  const EncoderBatch batch = {histories, items, actions, static_cast<float*>(workspace), {fused, interests, weights},
                              shared};
  return launch_shared(encode_users_kernel, histories.batch, kEncoderThreads, (fixed + shared) * kFloat, stream, params,
                       batch, sizes);
}

}  // namespace lsif::cuda
