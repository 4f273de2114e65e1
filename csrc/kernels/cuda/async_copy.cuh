// Asynchronous copies from global to shared memory (PTX ISA, cp.async, from sm_80 on).
#pragma once

#include "kernels/cuda/device.cuh"

namespace lsif::cuda {

// Copies 16 bytes; both addresses are 16-byte aligned.
__device__ inline void copy_async(float* to_shared, const float* from_global) {
#if defined(LSIF_CUDA_EMULATED)
  ::emulated::Block::get().defer_copy(to_shared, from_global, 16);
#else
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(to_shared))),
      "l"(__cvta_generic_to_global(from_global))
      : "memory");
#endif
}

// Waits for all copies of this thread. To read what other threads have copied, a barrier must follow.
__device__ inline void copy_async_wait() {
#if defined(LSIF_CUDA_EMULATED)
  ::emulated::Block::get().finish_copies();
#else
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// Prefetches into the L2 cache.
__device__ inline void prefetch(const void* from_global) {
#if defined(LSIF_CUDA_EMULATED)
  (void)from_global;
#else
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(from_global)));
#endif
}

}  // namespace lsif::cuda
