// As much of CUDA as csrc/kernels/cuda/ uses, on the CPU: .cu files are compiled as C++ with this folder first on the
// include path. A launch runs its blocks one after another (fibers.h); "device memory" is memory.
//
// What it cannot show: how fast anything is, races between blocks other than by their order, float functions of the
// CUDA library (those of the C library stand in), and whether a fragment of a matrix instruction lies in registers as
// NVIDIA's manual, after which mma.cuh was written, says.
#pragma once

#include <math.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <utility>

#include "fibers.h"
#include "guarded.h"

#define LSIF_CUDA_EMULATED 1
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__
// Not initialised in CUDA, so set to all ones (NaN) before every block; only functions that are no templates may have
// them, as GCC ignores sections in templates.
#define __shared__ static __attribute__((section("lsif_shared")))

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : error == cudaErrorInvalidValue ? "invalid value" : "invalid configuration";
}

inline cudaError_t cudaGetLastError() { return cudaSuccess; }

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension };

struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    dim3 clusterDim;
  } val;
};

struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

// Memory that notices a step past its end, and begins as NaN.
inline std::map<void*, guarded::Array<unsigned char>>& device_memory() {
  static std::map<void*, guarded::Array<unsigned char>> memory;
  return memory;
}

inline cudaError_t cudaMalloc(void** memory, size_t size) {
  guarded::Array<unsigned char> array(static_cast<int64_t>(size));
  *memory = size == 0 ? nullptr : array.data();
  if (size > 0) device_memory().emplace(*memory, std::move(array));
  return cudaSuccess;
}

inline cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  const auto found = device_memory().find(memory);
  if (found == device_memory().end() || !found->second.front_intact()) return cudaErrorInvalidValue;
  device_memory().erase(found);
  return cudaSuccess;
}

inline cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
  std::memcpy(to, from, size);
  return cudaSuccess;
}

inline dim3 gridDim;
inline dim3 blockDim;
#define blockIdx dim3(static_cast<unsigned>(::emulated::Block::get().block()), 0, 0)
#define threadIdx dim3(static_cast<unsigned>(::emulated::Block::get().thread()), 0, 0)

enum cudaDeviceAttr {
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrClusterLaunch
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
struct cudaFuncAttributes {
  int ptxVersion;
};

inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = emulated::shared_memory_limit;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = emulated::num_processors;
      break;
    case cudaDevAttrClusterLaunch:
      *value = 1;
  }
  return cudaSuccess;
}

namespace emulated {

// Bytes of dynamic shared memory that launches of a kernel may ask for: as in CUDA the kernel's, whoever set it last.
template <typename Kernel>
int& most_dynamic_shared(Kernel* kernel) {
  static std::map<Kernel*, int> most;
  return most.try_emplace(kernel, 48 << 10).first->second;
}

}  // namespace emulated

template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute, int size) {
  if (size > emulated::shared_memory_limit) return cudaErrorInvalidValue;
  emulated::most_dynamic_shared(kernel) = size;
  return cudaSuccess;
}

template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel*) {
  attributes->ptxVersion = 90;
  return cudaSuccess;
}

// The arguments are those of the kernel, by value.
template <typename... Params>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...), Params... args) {
  if (config->dynamicSmemBytes > static_cast<size_t>(emulated::most_dynamic_shared(kernel)))
    return cudaErrorInvalidValue;
  emulated::choose_order();
  gridDim = config->gridDim;
  blockDim = config->blockDim;
  const auto blocks = static_cast<int>(gridDim.x);
  const int of_cluster = config->numAttrs > 0 ? static_cast<int>(config->attrs[0].val.clusterDim.x) : 1;
  if (blocks % of_cluster != 0 || (of_cluster > 1 && blockDim.x % emulated::kWarpThreads != 0))
    return cudaErrorInvalidConfiguration;
  for (const int cluster : emulated::in_order(blocks / of_cluster)) {
    emulated::Block::get().run(cluster * of_cluster, of_cluster, static_cast<int>(blockDim.x), config->dynamicSmemBytes,
                               [&] { kernel(args...); });
  }
  return cudaSuccess;
}

#define __syncthreads() \
  ::emulated::Block::get().wait(::emulated::Fiber::State::kAtBlock, __builtin_FILE(), __builtin_LINE())
#define __syncwarp() \
  ::emulated::Block::get().wait(::emulated::Fiber::State::kAtWarp, __builtin_FILE(), __builtin_LINE())

// Of whole warps only.
template <typename T>
T __shfl_sync(unsigned, T x, int lane, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return emulated::Block::get().exchange(x, file, line)[lane & 31];
}

template <typename T>
T __shfl_xor_sync(unsigned all, T x, int mask, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return __shfl_sync(all, x, (emulated::Block::get().thread() & 31) ^ mask, file, line);
}

template <typename T>
T __shfl_up_sync(unsigned all, T x, int by, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const int lane = emulated::Block::get().thread() & 31;
  return __shfl_sync(all, x, lane < by ? lane : lane - by, file, line);
}

inline unsigned __ballot_sync(unsigned, bool mine, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const auto all = emulated::Block::get().exchange(mine, file, line);
  unsigned bits = 0;
  for (int lane = 0; lane < 32; ++lane) bits |= (all[lane] ? 1u : 0u) << lane;
  return bits;
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }

inline float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
inline unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
template <typename T>
T __ldg(const T* address) {
  return *address;
}
inline float normcdff(float x) { return 0.5f * erfcf(x * -0.70710678118654752f); }

struct alignas(16) float4 {
  float x, y, z, w;
};

struct alignas(16) int4 {
  int x, y, z, w;
};

struct alignas(8) float2 {
  float x, y;
};

struct uint2 {
  unsigned x, y;
};

struct uint4 {
  unsigned x, y, z, w;
};

// One thread runs at a time.
template <typename T>
T atomicAdd(T* address, T x) {
  const T old = *address;
  *address = old + x;
  return old;
}

template <typename T>
T atomicMax(T* address, T x) {
  const T old = *address;
  *address = x > old ? x : old;
  return old;
}

template <typename T>
T max(T a, T b) {
  return a > b ? a : b;
}

template <typename T>
T min(T a, T b) {
  return b < a ? b : a;
}
