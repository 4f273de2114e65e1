#include <algorithm>

#include "kernels/cuda/encode_users.h"
#include "kernels/cuda/encoder_attention.cuh"
#include "kernels/cuda/encoder_phases.cuh"
#include "kernels/cuda/encoder_user.cuh"

namespace lsif::cuda {
namespace {

// Floats of what a user's block needs, multiples of 4.
struct EncoderSizes {
  int64_t scores;     // shared memory always, as the linear layers' scratch
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
  int64_t shared;  // floats of it that are left beside scratch and scores
};

// The vectors of a history's events: those from first_there on lie in `there`, others are embedded when asked for.
struct EventRows {
  EmbeddingParams embedding;
  EventIds ids;
  RowsView there;
  int64_t first_there;
  RowsView chunk;

  __device__ RowsView operator()(int64_t begin, int count) const {
    if (begin >= first_there) return {there.row(static_cast<int>(begin - first_there)), there.stride};
    const int64_t* actions = ids.actions == nullptr ? nullptr : ids.actions + begin;
    embed(embedding, EventIds{ids.items + begin, actions}, count, chunk);
    return chunk;
  }
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

  __device__ int64_t newest_time() const { return times() == nullptr ? kUnknownTime : times()[begin + seq_len - 1]; }

  __device__ void run() {
    const EncoderShape& s = params.shape;
    num_states = static_cast<int>(seq_len < kept_states(s) ? seq_len : kept_states(s));
    const int64_t reach = num_states + s.num_layers * (s.window - 1);
    num_rows = static_cast<int>(seq_len < reach ? seq_len : reach);
    const UserInterests interests(params, arena);
    const RowsView x = arena.rows(num_rows, stride());
    interests.add_context(seq_len, newest_time(), now());
    embed(params.embedding, ids_from(seq_len - num_rows), num_rows, x);
    end_phase(Phase::kEmbed);
    if (s.num_long > 0) pool_long(interests, x);
    end_phase(Phase::kLongPooling);
    run_blocks(x);
    const RowsView states = {x.row(num_rows - num_states), x.stride};
    if (s.num_short > 0) interests.add_short(num_states, event_rows(states, 0, states), arena);
    end_phase(Phase::kShortPooling);
    interests.fuse(x.row(num_rows - 1), outputs_of(s, batch.out, user));
    end_phase(Phase::kFusion);
  }

  __device__ EventIds ids_from(int64_t event) const {
    const int64_t* actions = batch.actions == nullptr ? nullptr : batch.actions + begin + event;
    return {batch.items + begin + event, actions};
  }

  __device__ EventRows event_rows(const RowsView& there, int64_t first_there, const RowsView& chunk) const {
    return {params.embedding, ids_from(0), there, first_there, chunk};
  }

  __device__ void pool_long(const UserInterests& interests, const RowsView& x) const {
    const int64_t num_long = params.shape.num_long;
    BlockArena free = arena;
    const RowsView pooled = free.rows(num_long, stride());
    const RowsView chunk = free.rows(kPoolingRows, stride());
    const PoolingBuffers buffers = interests.pooling_buffers(free, num_long);
    PoolingTimes ages = {nullptr, kUnknownTime};
    if (params.use_times && times() != nullptr) ages = {times() + begin, newest_time()};
    block_pooling(params.long_pooling, seq_len, event_rows(x, seq_len - num_rows, chunk), ages, buffers, pooled);
    interests.add_long(pooled);
  }

  // The first row whose state after layer l is needed.
  __device__ int first(int64_t l) const {
    const int64_t row = num_rows - num_states - (params.shape.num_layers - 1 - l) * (params.shape.window - 1);
    return static_cast<int>(row > 0 ? row : 0);
  }

  // x: embeddings that become states, of which the last num_states are right.
  __device__ void run_blocks(const RowsView& x) const {
    BlockArena free = arena;
    const RowsView normed = free.rows(num_rows, stride());
    const bool has_normed = free.global == arena.global;
    const RowsView projected = free.rows(num_rows, sizes.projected_stride);
    const bool has_all = free.global == arena.global;
    const bool is_timed = params.use_times && times() != nullptr;
    auto* buckets = is_timed ? reinterpret_cast<Bucket*>(free.take(num_rows * sizes.bucket)) : nullptr;
    // What is left of shared memory makes up for keys that are not there.
    const KeyRoom room = {free.shared, has_normed && !has_all ? free.shared_left : 0};
    if (is_timed) find_buckets(times() + begin + seq_len - num_rows, buckets);
#pragma unroll 1
    for (int64_t l = 0; l < params.shape.num_layers; ++l) {
      run_layer(params.blocks[l], first(l - 1), first(l), x, normed, projected, buckets, room);
    }
    norm_rows(params.norm, x, num_rows - num_states, num_rows, nullptr, 0, x);
    __syncthreads();
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
    const auto columns = [&](int64_t first_column, int64_t count, int row, Turn turn) {
      block_linear(linear_slice(input, first_column, count), {normed.row(row), normed.stride}, num_rows - row,
                   {nullptr, 0, projected.row(row) + first_column, projected.stride}, turn);
    };
    const int64_t d = params.shape.dim;
    if (in_first == out_first || d % kLinearPanel != 0) return columns(0, input.out_dim, in_first, {});
    columns(0, d, out_first, {.is_first = true, .is_last = false});
    const auto panels = static_cast<int>(d / kLinearPanel);
    if (input.out_dim > 3 * d) {
      columns(3 * d, input.out_dim - 3 * d, out_first,
              {.is_first = false, .is_last = false, .first_warp = panels % kEncoderWarps});
    }
    columns(d, 2 * d, in_first, {.is_first = false, .is_last = true});
  }

  // Rows of x from in_first on are read, rows from out_first on become the layer's result.
  __device__ void run_layer(const BlockParams& block, int in_first, int out_first, const RowsView& x,
                            const RowsView& normed, const RowsView& projected, const Bucket* buckets,
                            const KeyRoom& room) const {
    const int d = static_cast<int>(params.shape.dim);
    __syncthreads();
    norm_rows(block.norm, x, in_first, num_rows, nullptr, 0, normed);
    end_phase(Phase::kNorm);
    project(block.input, in_first, out_first, normed, projected);
    const EncoderAttention attention = {projected.data,   projected.data + d, projected.data + 2 * d,
                                        projected.stride, projected.stride,   buckets};
    end_phase(Phase::kProject);
    block_attention(block.attention, attention, out_first, num_rows, normed, scores, room);
    end_phase(Phase::kAttention);
    const auto from = [&](const RowsView& rows) { return RowsView{rows.row(out_first), rows.stride}; };
    finish_layer(params.shape, block, from(x), from(normed), from(projected), num_rows - out_first);
    end_phase(Phase::kFinish);
  }
};

__global__ void __launch_bounds__(kEncoderThreads, 1)
    encode_users_kernel(const __grid_constant__ EncoderParams params, const __grid_constant__ EncoderBatch batch,
                        const __grid_constant__ EncoderSizes sizes) {
  const int64_t user = blockIdx.x;
  const int64_t begin = batch.histories.offsets[user];
  const int64_t seq_len = batch.histories.offsets[user + 1] - begin;
  if (seq_len == 0) return clear_outputs(params.shape, outputs_of(params.shape, batch.out, user));
  float* scores = linear_scratch() + kLinearScratch;
  float* own = batch.workspace + begin * sizes.row + user * sizes.user;
  const BlockArena arena = {scores + sizes.scores, batch.shared, own};
  UserEncoder encoder = {params, batch, sizes, user, begin, seq_len, scores, arena, 0, 0};
  start_phases();
  encoder.run();
}

}  // namespace

bool encode_users_fits(const EncoderShape& s) {
  if (s.dim > kMostEncoderDim || s.num_layers > kMostEncoderLayers || s.window > kMostEncoderWindow) return false;
  if (s.num_time_boundaries + 2 > int64_t{1} << (8 * sizeof(Bucket))) return false;
  constexpr int64_t kFloat = sizeof(float);
  return (kLinearScratch + encoder_sizes(s).scores) * kFloat <= shared_memory_limit();
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
  const int64_t fixed = kLinearScratch + sizes.scores;
  const int64_t rows = std::min(histories.total, sizes.most_rows);  // no user has more
  const int64_t wanted = sizes.user + rows * sizes.row;
  const int64_t shared = std::min(wanted, shared_memory_limit() / kFloat - fixed) / 4 * 4;
  const EncoderBatch batch = {histories, items, actions, static_cast<float*>(workspace), {fused, interests, weights},
                              shared};
  return launch_shared(encode_users_kernel, histories.batch, kEncoderThreads, (fixed + shared) * kFloat, stream, params,
                       batch, sizes);
}

#if defined(LSIF_CUDA_PHASES)
cudaError_t read_phases(Phases& phases) { return cudaMemcpyFromSymbol(&phases, encoder_phases, sizeof(phases)); }
#endif

}  // namespace lsif::cuda
