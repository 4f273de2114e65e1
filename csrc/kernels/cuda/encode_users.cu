#include "kernels/cuda/encode_users_kernel.cuh"

namespace lsif::cuda {
namespace {

constexpr int64_t kFloat = sizeof(float);

// A lone user's layers are done sooner by several blocks, many users' are not.
Blocks blocks_of(const EncoderShape& s, int64_t batch) {
  if (has_clusters() && s.dim % kLinearPanel == 0) {
    for (const int count : {8, 4, 2}) {
      // A cluster's blocks are neighbours on the chip: not all processors may find some.
      if (batch * count <= num_processors() * 3 / 4) return {count, count - (s.num_long > 0 ? 1 : 0)};
    }
  }
  return {1, 1};
}

// That go through the layers, at most, of any user.
int64_t most_rows(const EncoderSizes& sizes, int64_t total) { return std::min(total, sizes.most_rows); }

int64_t fixed_size(const EncoderSizes& sizes) { return kLinearScratch + sizes.scores; }

// What a block can use of this device's shared memory, where so many share a processor's.
int64_t room(const EncoderSizes& sizes, int per_processor) {
  constexpr int64_t kReserved = 1 << 10;  // of each block's
  const int64_t limit = (shared_memory_limit() + kReserved) / per_processor - kReserved;
  return limit / kFloat - fixed_size(sizes);
}

}  // namespace

bool encode_users_fits(const EncoderShape& s) {
  if (s.dim > kMostEncoderDim || s.num_layers > kMostEncoderLayers || s.window > kMostEncoderWindow) return false;
  if (s.num_time_boundaries + 2 > int64_t{1} << (8 * sizeof(Bucket))) return false;
  return room(encoder_sizes(s), 1) >= 0;
}

int64_t encode_users_workspace_size(const EncoderShape& shape, int64_t total, int64_t batch) {
  const EncoderSizes sizes = encoder_sizes(shape);
  const Blocks blocks = blocks_of(shape, batch);
  if (blocks.count == 1) return kFloat * (total * sizes.row + batch * sizes.user);
  const int64_t rows = most_rows(sizes, total);
  const int64_t of_block = rows * (sizes.row + sizes.keys) + sizes.user;
  return kFloat * batch * (blocks.count * of_block + 2 * rows * sizes.keys);
}

cudaError_t encode_users(const EncoderParams& params, const Histories& histories, const int64_t* items,
                         const int64_t* actions, void* workspace, float* fused, float* interests, float* weights,
                         cudaStream_t stream) {
  const EncoderShape& s = params.shape;
  const EncoderSizes sizes = encoder_sizes(s);
  const Blocks blocks = blocks_of(s, histories.batch);
  EncoderBatch batch = {histories, items, actions, static_cast<float*>(workspace), {fused, interests, weights},
                        0,         blocks};
  const int64_t all_rows = most_rows(sizes, histories.total);
  const int64_t rows = std::min(all_rows, blocks.rows(all_rows, std::min(all_rows, kept_states(s))));
  const int64_t keys = blocks.count > 1 ? rows + s.window - 1 : 0;
  const int64_t wanted = sizes.user + rows * sizes.row + keys * sizes.keys;
  const bool is_many = histories.batch > num_processors() && room(sizes, 2) > sizes.user;
  batch.shared = std::min(wanted, room(sizes, is_many ? 2 : 1)) / 4 * 4;
  const int64_t shared_bytes = (fixed_size(sizes) + batch.shared) * kFloat;
#if !defined(LSIF_CUDA_PHASES)  // which are those of this file's kernel
  if (is_many) return launch_two_a_processor(params, batch, sizes, shared_bytes, stream);
#endif
  return launch_clusters(encode_users_kernel<1>, histories.batch * blocks.count, blocks.count, kEncoderThreads,
                         shared_bytes, stream, params, batch, sizes);
}

#if defined(LSIF_CUDA_PHASES)
cudaError_t read_phases(Phases& phases) { return cudaMemcpyFromSymbol(&phases, encoder_phases, sizeof(phases)); }
#endif

}  // namespace lsif::cuda
