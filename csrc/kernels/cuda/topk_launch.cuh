// Launches of kernels that follow each other at once.
#pragma once

#include "kernels/cuda/device.cuh"

// 1: from sm_90 on a kernel's blocks are set up while those of the kernel before it finish ("programmatic dependent
// launch"), and wait for its results there.
#if !defined(LSIF_TOPK_OVERLAP)
#define LSIF_TOPK_OVERLAP 0
#endif

namespace lsif::cuda {

// Of this device; 1 if it does not say.
inline int64_t num_processors() {
  int device = 0;
  int count = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 1;
  if (cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) return 1;
  return count;
}

// Before a kernel reads or writes anything: until the kernel launched before it is done. Then the next one may be set
// up.
__device__ inline void wait_for_last_kernel() {
#if LSIF_TOPK_OVERLAP && !defined(LSIF_CUDA_EMULATED) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// A kernel that begins with wait_for_last_kernel().
template <typename... Params, typename... Args>
cudaError_t launch_next(void (*kernel)(Params...), int64_t blocks, int threads, int64_t shared, cudaStream_t stream,
                        Args... args) {
#if LSIF_TOPK_OVERLAP && !defined(LSIF_CUDA_EMULATED)
  if (blocks <= 0 || blocks > INT_MAX) return cudaErrorInvalidConfiguration;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...);
#else
  return launch_shared(kernel, blocks, threads, shared, stream, args...);
#endif
}

}  // namespace lsif::cuda
