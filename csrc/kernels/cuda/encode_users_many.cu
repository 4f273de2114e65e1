#include "kernels/cuda/encode_users_kernel.cuh"

namespace lsif::cuda {

cudaError_t launch_two_a_processor(const EncoderParams& params, const EncoderBatch& batch, const EncoderSizes& sizes,
                                   int64_t shared_bytes, cudaStream_t stream) {
  return launch_shared(encode_users_kernel<2>, batch.histories.batch, kEncoderThreads, shared_bytes, stream, params,
                       batch, sizes);
}

}  // namespace lsif::cuda
