// In the place of csrc/ops/cuda_device.h: the GPU is emulated on the CPU (tests/cuda_emulation/), its memory is the
// host's, and the ops are registered for CPU tensors in namespaces of their own (tests/emulated.py).
#pragma once

#include <cuda_runtime_api.h>

#include <cstring>
#include <mutex>

#include "ops/checks.h"

#undef STABLE_TORCH_LIBRARY_IMPL
#define STABLE_TORCH_LIBRARY_IMPL(ns, k, m) _STABLE_TORCH_LIBRARY_IMPL(ns##_emulated, CPU, m, C10_UID)

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t) {
  return size == 0 ? cudaSuccess : cudaMemcpy(to, from, size, kind);
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

namespace lsif::ops {

// The emulation runs one launch at a time.
class OnDevice {
 public:
  explicit OnDevice(const Tensor&) : lock_(mutex()) {}

  cudaStream_t stream = nullptr;

 private:
  static std::recursive_mutex& mutex() {
    static std::recursive_mutex& one = *new std::recursive_mutex;
    return one;
  }

  std::lock_guard<std::recursive_mutex> lock_;
};

inline Place device_of(const Tensor&) { return {}; }

}  // namespace lsif::ops
