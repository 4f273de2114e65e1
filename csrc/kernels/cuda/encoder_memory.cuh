// Memory for rows of activations in the blocks of threads of encode_users.cu and user_states.cu
#pragma once

#include "kernels/cuda/device.cuh"

namespace lsif::cuda {

// 384 and 512 hide more latency, but share the registers and the L1 cache of an SM: encode is slower (docs/cuda.md).
inline constexpr int kEncoderThreads = 256;
inline constexpr int kEncoderWarps = kEncoderThreads / kWarp;

// The stride of activation rows is an odd multiple of 16 bytes, so that eight threads that read 16 bytes of eight rows
// have no bank conflict in shared memory.
constexpr int64_t padded_stride(int64_t columns) { return 4 * ((columns + 3) / 4 | 1); }

// Rows in shared or in global memory, 16-byte aligned, `stride` a multiple of 4.
struct RowsView {
  float* data;
  int stride;

  __device__ float* row(int r) const { return data + r * stride; }
};

// Hands out shared memory while there is enough, then the block's part of the workspace, in multiples of 4 floats.
struct BlockArena {
  float* shared;
  int64_t shared_left;
  float* global;

  __device__ float* take(int64_t size) {
    size = (size + 3) / 4 * 4;
    if (size <= shared_left) {
      shared_left -= size;
      shared += size;
      return shared - size;
    }
    return take_global(size);
  }

  __device__ float* take_global(int64_t size) {
    global += (size + 3) / 4 * 4;
    return global - (size + 3) / 4 * 4;
  }

  __device__ RowsView rows(int64_t count, int stride) { return {take(count * stride), stride}; }
};

}  // namespace lsif::cuda
