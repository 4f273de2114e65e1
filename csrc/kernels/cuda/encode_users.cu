#include <climits>

#include "kernels/cuda/encode_users_kernel.cuh"

namespace lsif::cuda {
namespace {

constexpr int64_t kFloat = sizeof(float);

// Several blocks compute one user's layers faster; with many users they do not pay.
Blocks blocks_of(const EncoderShape& s, int64_t batch) {
  const int64_t most = num_processors() * 3 / 4;  // a cluster's blocks are neighbours: not all clusters may fit
  if (2 * batch > most || s.dim % kLinearPanel != 0 || !has_clusters(encode_users_kernel<1>)) return {1, 1};
  for (const int count : {8, 5, 3}) {
    if (count * batch <= most) return {count, count - (s.num_long > 0 ? 1 : 0)};
  }
  return {2, s.num_long > 0 ? 1 : 2};
}

int64_t fixed_size(const EncoderSizes& sizes) { return kLinearScratch + sizes.scores; }

// The floats of shared memory left for a block's data if `per_processor` blocks share a multiprocessor.
int64_t room(const EncoderSizes& sizes, int per_processor) {
  constexpr int64_t kReserved = 1 << 10;  // bytes per block reserved by the system
  const int64_t limit = (shared_memory_limit() + kReserved) / per_processor - kReserved;
  return limit / kFloat - fixed_size(sizes);
}

EncoderBatch divided(const EncoderShape& s, const EncoderSizes& sizes, const Histories& histories) {
  EncoderBatch batch = {};
  batch.histories = histories;
  batch.blocks = blocks_of(s, histories.batch);
  batch.most_rows = std::min(histories.total, sizes.most_rows);
  const int64_t num_states = std::min(batch.most_rows, kept_states(s));
  batch.own_rows = std::min(batch.most_rows, batch.blocks.rows(batch.most_rows, num_states));
  return batch;
}

}  // namespace

bool encode_users_fits(const EncoderShape& s) {
  if (s.dim > kMostEncoderDim || s.num_layers > kMostEncoderLayers || s.window > kMostEncoderWindow) return false;
  if (s.num_time_boundaries + 2 > int64_t{1} << (8 * sizeof(Bucket))) return false;
  const EncoderSizes sizes = encoder_sizes(s);
  return sizes.most_rows * sizes.projected_stride <= INT_MAX && room(sizes, 1) >= 0;  // offsets within rows are int
}

int64_t encode_users_workspace_size(const EncoderShape& shape, int64_t total, int64_t batch) {
  if (!encode_users_fits(shape)) return 0;
  const EncoderSizes sizes = encoder_sizes(shape);
  return kFloat * divided(shape, sizes, {nullptr, nullptr, nullptr, batch, total}).workspace_size(sizes);
}

cudaError_t encode_users(const EncoderParams& params, const Histories& histories, const int64_t* items,
                         const int64_t* actions, void* workspace, float* fused, float* interests, float* weights,
                         cudaStream_t stream) {
  const EncoderShape& s = params.shape;
  const EncoderSizes sizes = encoder_sizes(s);
  EncoderBatch batch = divided(s, sizes, histories);
  batch.items = items;
  batch.actions = actions;
  batch.workspace = static_cast<float*>(workspace);
  batch.out = {fused, interests, weights};
  const int64_t keys = batch.blocks.count > 1 ? batch.own_rows + s.window - 1 : 0;
  const int64_t wanted = sizes.user + batch.own_rows * sizes.row + keys * sizes.keys;
  const bool is_many = histories.batch > num_processors() && room(sizes, 2) > sizes.user;
  batch.shared = std::min(wanted, room(sizes, is_many ? 2 : 1)) / 4 * 4;
  const int64_t shared_bytes = (fixed_size(sizes) + batch.shared) * kFloat;
  if (is_many) return launch_two_a_processor(params, batch, sizes, shared_bytes, stream);
  return launch_clusters(encode_users_kernel<1>, histories.batch * batch.blocks.count, batch.blocks.count,
                         kEncoderThreads, shared_bytes, stream, params, batch, sizes);
}

}  // namespace lsif::cuda
