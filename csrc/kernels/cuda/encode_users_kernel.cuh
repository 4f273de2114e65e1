// The kernel of encode_users.cu and encode_users_many.cu                                           (docs/cuda.md)
#pragma once

#include "kernels/cuda/encode_users_plan.cuh"

namespace lsif::cuda {
namespace {

// The vectors of a history's events. Those from first_there on are in `there`; others are embedded on demand.
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

// Like EventRows, for a block that does not compute layers but takes part in the barrier the cluster passes once per
// layer. It arrives before each chunk, so that the layers need not wait for all chunks, if there are enough of them.
struct RowsBesideLayers {
  EventRows rows;
  int64_t num_layers;

  __device__ RowsView operator()(int64_t begin, int count) const {
    const int64_t chunk = begin / kPoolingRows;
    if (chunk > 0 && chunk < num_layers) cluster_wait();
    if (chunk < num_layers) cluster_arrive();
    return rows(begin, count);
  }

  __device__ int64_t arrivals(int64_t num_events) const {
    const int64_t chunks = divide_up(num_events, kPoolingRows);
    return chunks < num_layers ? chunks : num_layers;
  }
};

// One user, or a block's part of one; run by all threads of a block.
struct UserEncoder {
  const EncoderParams& params;
  const EncoderBatch& batch;
  const EncoderSizes& sizes;
  int64_t user;
  int block;        // index among the user's blocks
  int64_t begin;    // of its events
  int64_t seq_len;  // > 0
  float* scores;
  BlockArena arena;
  int num_states;
  int num_rows;  // the newest events, which go through the layers; this block has
  int own_first;
  int own_last;

  __device__ bool is_alone() const { return batch.blocks.count == 1; }
  __device__ int stride() const { return static_cast<int>(padded_stride(params.shape.dim)); }
  __device__ const int64_t* times() const { return batch.histories.times; }
  __device__ int64_t now() const { return batch.histories.now == nullptr ? kUnknownTime : batch.histories.now[user]; }

  __device__ int64_t newest_time() const { return times() == nullptr ? kUnknownTime : times()[begin + seq_len - 1]; }

  __device__ void run() {
    const EncoderShape& s = params.shape;
    divide_rows();
    if (own_last <= own_first) return pass_barriers(0);
    const UserInterests interests(params, arena);
    // Normalised rows are read many times, x once per layer: if both do not fit, x goes to the workspace.
    const int64_t size = static_cast<int64_t>(own_last - own_first) * stride();
    const bool is_shared = 2 * size <= arena.shared_left;
    float* x_data = is_shared ? arena.take(size) : arena.take_global(size);
    const RowsView x = {x_data - own_first * stride(), stride()};
    if (block == 0) interests.add_context(seq_len, newest_time(), now());
    const int64_t first_event = seq_len - num_rows;
    embed(params.embedding, ids_from(first_event + own_first), own_last - own_first, {x.row(own_first), x.stride});
    if (s.num_long > 0 && is_alone()) {
      pool_long(interests,
                [&](const RowsView& chunk) { return event_rows(x, is_shared ? first_event : seq_len, chunk); });
    }
    const int64_t passed = run_layers(x);
    if (block > 0) return pass_barriers(passed);
    const RowsView states = {x.row(num_rows - num_states), x.stride};
    if (s.num_short > 0) interests.add_short(num_states, event_rows(states, 0, states), arena);
    const EncoderOutputs out = outputs_of(s, batch.out, user);
    if (s.num_long > 0 && !is_alone()) {
      pass_barriers(passed);
      copy_long(out.interests, interests.fusion.context);
    }
    interests.fuse(x.row(num_rows - 1), out);
  }

  // The task of the last block of a cluster.
  __device__ void run_long() {
    const UserInterests interests(params, arena);
    const int64_t num_layers = params.shape.num_layers;
    const auto rows_of = [&](const RowsView& chunk) {
      return RowsBesideLayers{event_rows({}, seq_len, chunk), num_layers};
    };
    pool_long(interests, rows_of);
    copy_long(interests.fusion.context, outputs_of(params.shape, batch.out, user).interests);
#pragma unroll 1
    for (int64_t i = rows_of({}).arrivals(seq_len); i <= num_layers; ++i) {
      cluster_wait();
      cluster_arrive();
    }
    cluster_wait();
  }

  // The blocks of a cluster pass one barrier per layer, and one after the long-term interests are computed.
  __device__ void pass_barriers(int64_t passed) const {
    const int64_t count = params.shape.num_layers + (params.shape.num_long > 0 ? 1 : 0);
#pragma unroll 1
    for (; passed < count; ++passed) cluster_sync();
  }

  __device__ void divide_rows() {
    const EncoderShape& s = params.shape;
    num_states = static_cast<int>(seq_len < kept_states(s) ? seq_len : kept_states(s));
    const int64_t reach = num_states + s.num_layers * (s.window - 1);
    num_rows = static_cast<int>(seq_len < reach ? seq_len : reach);
    const auto count = static_cast<int>(batch.blocks.rows(num_rows, num_states));
    own_last = num_rows - block * count;
    own_first = own_last > count && !is_alone() ? own_last - count : 0;
  }

  __device__ void copy_long(const float* from, float* to) const {
    const int64_t size = params.shape.num_long * params.shape.dim;
#pragma unroll 1
    for (int64_t i = threadIdx.x; i < size; i += kEncoderThreads) to[i] = from[i];
  }

  __device__ EventIds ids_from(int64_t event) const {
    const int64_t* actions = batch.actions == nullptr ? nullptr : batch.actions + begin + event;
    return {batch.items + begin + event, actions};
  }

  // there: the embedded rows of the events from first_there on.
  __device__ EventRows event_rows(const RowsView& there, int64_t first_there, const RowsView& chunk) const {
    return {params.embedding, ids_from(0), there, first_there, chunk};
  }

  // rows_of(chunk): gives the events' rows, with `chunk` as buffer.
  template <typename RowsOf>
  __device__ void pool_long(const UserInterests& interests, RowsOf rows_of) const {
    const int64_t num_long = params.shape.num_long;
    BlockArena free = arena;
    const RowsView pooled = free.rows(num_long, stride());
    const RowsView chunk = free.rows(kPoolingRows, stride());
    const PoolingBuffers buffers = interests.pooling_buffers(free, num_long);
    PoolingTimes ages = {nullptr, kUnknownTime};
    if (params.use_times && times() != nullptr) ages = {times() + begin, newest_time()};
    block_pooling(params.long_pooling, seq_len, rows_of(chunk), ages, buffers, pooled);
    interests.add_long(pooled);
  }

  // The first row whose state after layer l is needed.
  __device__ int first(int64_t l) const {
    const int64_t row = num_rows - num_states - (params.shape.num_layers - 1 - l) * (params.shape.window - 1);
    return static_cast<int>(row > 0 ? row : 0);
  }

  // The layers' data besides x, for this block's own rows.
  struct LayerRows {
    RowsView normed;
    RowsView projected;
    Bucket* buckets;
    KeyRoom room;
  };

  __device__ RowsView take_own(BlockArena& free, int row_stride) const {
    const RowsView rows = free.rows(own_last - own_first, row_stride);
    return {rows.data - own_first * row_stride, row_stride};
  }

  __device__ LayerRows take_layer_rows() const {
    LayerRows rows = {};
    BlockArena free = arena;
    rows.normed = take_own(free, stride());
    const bool has_normed = free.global == arena.global;
    rows.projected = take_own(free, sizes.projected_stride);
    const bool has_all = free.global == arena.global;
    if (params.use_times && times() != nullptr) {
      auto* buckets = reinterpret_cast<Bucket*>(free.take((own_last - own_first) * sizes.bucket));
      rows.buckets = buckets - own_first * params.shape.window;
    }
    // The remaining shared memory holds copies of keys that are elsewhere.
    rows.room = {free.shared, has_normed && !(has_all && is_alone()) ? free.shared_left : 0};
    return rows;
  }

  // x: embeddings that become states; only the last num_states are valid. Returns how many layers needed this block.
  __device__ int64_t run_layers(const RowsView& x) const {
    const LayerRows rows = take_layer_rows();
    if (rows.buckets != nullptr) find_buckets(times() + begin + seq_len - num_rows, rows.buckets);
    int64_t l = 0;
#pragma unroll 1
    for (; l < params.shape.num_layers && first(l - 1) < own_last; ++l) run_layer(l, x, rows);
    if (block > 0) return l;
    norm_rows(params.norm, x, num_rows - num_states, num_rows, nullptr, 0, x);
    __syncthreads();
    return l;
  }

  __device__ void find_buckets(const int64_t* row_times, Bucket* buckets) const {
    const auto query_time = [&](int row) {
      if (!params.request_time) return row_times[row];
      if (row + 1 < num_rows) return row_times[row + 1];
      return now() == kUnknownTime ? row_times[row] : now();
    };
    block_buckets(params.blocks[0].attention, row_times, query_time, own_first, own_last, buckets);
  }

  // Computes keys and values of the rows from `in` on, into `keys`, and queries (and gates, in hstu) of those from
  // `out` on.
  __device__ void project(const LinearParams& input, int in, int out, const LayerRows& rows,
                          const RowsView& keys) const {
    const auto columns = [&](int64_t first_column, int64_t count, int row, const RowsView& to, Turn turn) {
      block_linear(linear_slice(input, first_column, count), {rows.normed.row(row), rows.normed.stride}, own_last - row,
                   {nullptr, 0, to.row(row) + first_column, to.stride}, turn);
    };
    const int64_t d = params.shape.dim;
    if (is_alone() && (in == out || d % kLinearPanel != 0)) return columns(0, input.out_dim, in, rows.projected, {});
    const bool has_queries = out < own_last;
    if (has_queries) {
      columns(0, d, out, rows.projected, {.is_first = true, .is_last = false});
      const auto panels = static_cast<int>(d / kLinearPanel);
      if (input.out_dim > 3 * d) {
        columns(3 * d, input.out_dim - 3 * d, out, rows.projected,
                {.is_first = false, .is_last = false, .first_warp = panels % kEncoderWarps});
      }
    }
    columns(d, 2 * d, in, keys, {.is_first = !has_queries, .is_last = true});
  }

  // Keys and values of all blocks' rows. Double-buffered by layer, because a block may still read those of one layer
  // while another writes those of the next.
  __device__ RowsView shared_keys(int64_t layer) const {
    return {batch.workspace + batch.shared_keys(sizes, user, layer), static_cast<int>(sizes.keys)};
  }

  // Reads the rows from first(layer - 1) on and replaces the rows from first(layer) on by the layer's result.
  __device__ void run_layer(int64_t layer, const RowsView& x, const LayerRows& rows) const {
    const BlockParams& parts = params.blocks[layer];
    const int d = static_cast<int>(params.shape.dim);
    const int in = max(first(layer - 1), own_first);
    const int out = max(first(layer), own_first);
    const RowsView keys = is_alone() ? RowsView{rows.projected.data + d, rows.projected.stride} : shared_keys(layer);
    __syncthreads();
    norm_rows(parts.norm, x, in, own_last, nullptr, 0, rows.normed);
    project(parts.input, in, out, rows, {keys.data - d, keys.stride});
    if (!is_alone()) cluster_sync();
    if (out >= own_last) return;  // the remaining rows belong to other blocks
    attend(parts.attention, out, rows, keys);
    const auto from = [&](const RowsView& of) { return RowsView{of.row(out), of.stride}; };
    finish_layer(params.shape, parts, from(x), from(rows.normed), from(rows.projected), own_last - out);
  }

  // Of a cluster's keys, copies those that this block needs, if there is room.
  __device__ void attend(const AttentionParams& attention, int out, const LayerRows& rows, RowsView keys) const {
    const int d = static_cast<int>(params.shape.dim);
    KeyRoom room = rows.room;
    if (!is_alone()) {
      const int first_key = max(out - static_cast<int>(attention.window) + 1, 0);
      const int count = own_last - first_key;
      if (static_cast<int64_t>(count) * keys.stride <= room.size) {
        copy_rows(keys.row(first_key), keys.stride, count, 2 * d, {room.data, keys.stride});
        copy_async_wait();
        keys.data = room.data - first_key * keys.stride;
      }
      room = {};
    }
    const EncoderAttention input = {rows.projected.data,   keys.data,   keys.data + d,
                                    rows.projected.stride, keys.stride, rows.buckets};
    block_attention(attention, input, out, own_last, rows.normed, scores, room);
  }
};

template <int kPerProcessor>
__global__ void __launch_bounds__(kEncoderThreads, kPerProcessor)
    encode_users_kernel(const __grid_constant__ EncoderParams params, const __grid_constant__ EncoderBatch batch,
                        const __grid_constant__ EncoderSizes sizes) {
  const int count = batch.blocks.count;
  const int64_t user = blockIdx.x / count;
  const int block = static_cast<int>(blockIdx.x) % count;
  const int64_t begin = batch.histories.offsets[user];
  const int64_t seq_len = batch.histories.offsets[user + 1] - begin;
  if (seq_len == 0) {
    if (block == 0) clear_outputs(params.shape, outputs_of(params.shape, batch.out, user));
    return;
  }
  float* scores = linear_scratch() + kLinearScratch;
  float* own = batch.workspace + begin * sizes.row + user * sizes.user;
  if (count > 1) own = batch.workspace + blockIdx.x * batch.of_block(sizes);
  const BlockArena arena = {scores + sizes.scores, batch.shared, own};
  UserEncoder encoder = {params, batch, sizes, user, block, begin, seq_len, scores, arena, 0, 0, 0, 0};
  if (block >= batch.blocks.of_rows) return encoder.run_long();
  encoder.run();
}

}  // namespace
}  // namespace lsif::cuda
