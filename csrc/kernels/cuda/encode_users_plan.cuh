// How encode_users.cu divides users among blocks, and what memory a block needs
#pragma once

#include <algorithm>

#include "kernels/cuda/encode_users.h"
#include "kernels/cuda/encoder_attention.cuh"
#include "kernels/cuda/encoder_user.cuh"

namespace lsif::cuda {

// Floats of what a user's block needs, multiples of 4.
struct EncoderSizes {
  int64_t scores;     // shared memory always, as the linear layers' scratch
  int64_t user;       // of a user
  int64_t row;        // of a row of the blocks
  int64_t bucket;     // of a row, of that its buckets
  int64_t keys;       // of a row's key and value, in a cluster
  int64_t most_rows;  // of the blocks
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

// The blocks of a user: one, or a cluster that shares the rows, the newest in the first block, which makes the result.
// With long-term interests the last block of a cluster makes these.
struct Blocks {
  int count;
  int of_rows;

  // Rows of one: as few tiles as will do, and all that the result is made of in the first.
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
  int64_t most_rows;  // of the layers, of any user
  int64_t own_rows;   // of those, that a block has
  int64_t shared;     // floats of shared memory that are left beside scratch and scores

  // Floats of the workspace. What does not fit a block's shared memory lies there: where a user has one block, of rows
  // where its events lie; in a cluster, in a place of the block's own, and keys and values of two layers behind all of
  // these.
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

// encode_users_many.cu, for more users than processors: two blocks a processor, which hide each other's waits. In a
// file of its own, for functions that are not inlined get no more registers than any kernel of their file may have.
cudaError_t launch_two_a_processor(const EncoderParams& params, const EncoderBatch& batch, const EncoderSizes& sizes,
                                   int64_t shared_bytes, cudaStream_t stream);

}  // namespace lsif::cuda
