// How encode_users.cu divides users among blocks, and how much memory a block needs
#pragma once

#include <algorithm>

#include "kernels/cuda/encode_users.h"
#include "kernels/cuda/encoder_attention.cuh"
#include "kernels/cuda/encoder_user.cuh"

namespace lsif::cuda {

// Sizes in floats, multiples of 4.
struct EncoderSizes {
  int64_t scores;     // always shared memory, like the linear layers' scratch
  int64_t user;       // per user
  int64_t row;        // per row that goes through the blocks
  int64_t bucket;     // per row, for its buckets; included in `row`
  int64_t keys;       // per row, for its key and value in a cluster
  int64_t most_rows;  // that go through the blocks
  int projected_stride;
};

inline EncoderSizes encoder_sizes(const EncoderShape& s) {
  EncoderSizes sizes = {};
  sizes.most_rows = kept_states(s) + s.num_layers * (s.window - 1);
  sizes.scores = encoder_scores_size(s.window, sizes.most_rows);
  sizes.projected_stride = static_cast<int>(padded_stride(std::max(s.projected_dim, s.ffn_dim)));
  sizes.bucket = round_up_to_4(static_cast<int64_t>(sizeof(Bucket)) * s.window / 4 + 1);
  sizes.row = 2 * padded_stride(s.dim) + sizes.projected_stride + sizes.bucket;
  sizes.keys = padded_stride(2 * s.dim);
  sizes.user = interests_size(s);
  return sizes;
}

// The blocks of a user: one, or a cluster that shares the rows. The first has the newest rows and computes the result;
// the last of a cluster computes long-term interests, if any.
struct Blocks {
  int count;
  int of_rows;

  // Rows per block: as few tiles as possible, but the first has all rows the result is computed from.
  __host__ __device__ constexpr int64_t rows(int64_t num_rows, int64_t num_states) const {
    const int64_t share = divide_up(num_rows, of_rows);
    return divide_up(share > num_states ? share : num_states, kTileRows) * kTileRows;
  }
};

struct EncoderBatch {
  Histories histories;
  const int64_t* items;
  const int64_t* actions;
  float* workspace;
  EncoderOutputs out;
  Blocks blocks;
  int64_t most_rows;  // that go through the layers, for any user
  int64_t own_rows;   // of these, per block
  int64_t shared;     // floats of shared memory left besides scratch and scores

  // Floats of the workspace, for what does not fit in a block's shared memory. With one block per user, rows are at the
  // positions of their events. In a cluster, each block has its own part; keys and values of two layers follow these.
  __host__ __device__ int64_t of_block(const EncoderSizes& sizes) const { return own_rows * sizes.row + sizes.user; }
  __host__ __device__ int64_t shared_keys(const EncoderSizes& sizes, int64_t user, int64_t layer) const {
    const int64_t blocks_end = histories.batch * blocks.count * of_block(sizes);
    return blocks_end + (2 * user + layer % 2) * most_rows * sizes.keys;
  }
  __host__ __device__ int64_t workspace_size(const EncoderSizes& sizes) const {
    if (blocks.count == 1) return histories.total * sizes.row + histories.batch * sizes.user;
    return shared_keys(sizes, histories.batch, 0);
  }
};

// encode_users_many.cu, for more users than multiprocessors: two blocks per multiprocessor hide each other's latency.
// In a file of its own, as functions that are not inlined get no more registers than any kernel of their file may have.
cudaError_t launch_two_a_processor(const EncoderParams& params, const EncoderBatch& batch, const EncoderSizes& sizes,
                                   int64_t shared_bytes, cudaStream_t stream);

}  // namespace lsif::cuda
