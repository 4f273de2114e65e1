// Helpers shared by the CUDA kernels.
#pragma once

#include <cuda_runtime.h>

#include <climits>
#include <cstdint>

#include "kernels/elapsed.h"
#include "kernels/types.h"

namespace lsif::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kThreads = 128;  // per block, unless a kernel says otherwise

// The most bytes of shared memory a block can have on this device, if it requests them.
inline int shared_memory_limit() {
  int device = 0;
  int limit = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  if (cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess) return 0;
  return limit;
}

// Multiprocessors of this device; 1 if unknown.
inline int64_t num_processors() {
  int device = 0;
  int count = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 1;
  if (cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) return 1;
  return count;
}

// Whether the kernel can be launched with clusters of blocks on this device: from sm_90 on, unless compiled for less,
// where the barriers below do not exist.
template <typename... Params>
bool has_clusters(void (*kernel)(Params...)) {
  int device = 0;
  int has = 0;
  cudaFuncAttributes compiled = {};
  if (cudaGetDevice(&device) != cudaSuccess) return false;
  if (cudaDeviceGetAttribute(&has, cudaDevAttrClusterLaunch, device) != cudaSuccess || has == 0) return false;
  return cudaFuncGetAttributes(&compiled, kernel) == cudaSuccess && compiled.ptxVersion >= 90;
}

// Clears the error from cudaGetLastError() and returns it: torch would attribute it to the next launch.
inline cudaError_t forgotten(cudaError_t error) {
  if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
  return error;
}

// Launches `blocks` blocks with `shared` bytes of dynamic_shared() each (may be 0). Unlike <<<>>> with
// cudaGetLastError(), reports only this launch's error. More than 48 KB are allowed only for kernels without __shared__
// variables. Each `cluster` consecutive blocks run at the same time, as a cluster.
template <typename... Params, typename... Args>
cudaError_t launch_clusters(void (*kernel)(Params...), int64_t blocks, int cluster, int threads, int64_t shared,
                            cudaStream_t stream, Args... args) {
  if (blocks == 0) return cudaSuccess;
  if (blocks < 0 || blocks > INT_MAX) return cudaErrorInvalidConfiguration;
  constexpr int64_t kByDefault = 48 << 10;
  if (shared > kByDefault) {
    // It persists and affects other threads' launches, so always set the limit, not what this launch needs.
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_memory_limit());
    if (error != cudaSuccess) return forgotten(error);
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared);
  config.stream = stream;
  cudaLaunchAttribute size = {};
  size.id = cudaLaunchAttributeClusterDimension;
  size.val.clusterDim.x = static_cast<unsigned>(cluster);
  size.val.clusterDim.y = size.val.clusterDim.z = 1;
  config.attrs = &size;
  config.numAttrs = cluster > 1 ? 1 : 0;
  return forgotten(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...));
}

template <typename... Params, typename... Args>
cudaError_t launch_shared(void (*kernel)(Params...), int64_t blocks, int threads, int64_t shared, cudaStream_t stream,
                          Args... args) {
  return launch_clusters(kernel, blocks, 1, threads, shared, stream, args...);
}

template <typename... Params, typename... Args>
cudaError_t launch(void (*kernel)(Params...), int64_t blocks, int threads, cudaStream_t stream, Args... args) {
  return launch_shared(kernel, blocks, threads, 0, stream, args...);
}

__device__ inline float* dynamic_shared() {
#if defined(LSIF_CUDA_EMULATED)
  return reinterpret_cast<float*>(::emulated::Block::get().dynamic_shared());
#else
  extern __shared__ float4 lsif_dynamic_shared[];
  return reinterpret_cast<float*>(lsif_dynamic_shared);
#endif
}

// Tells the compiler that p points to shared memory. Loads then use instructions for that memory, which are faster and
// have shorter addresses than generic ones.
__device__ inline void assume_shared([[maybe_unused]] const void* p) {
#if !defined(LSIF_CUDA_EMULATED)
  __builtin_assume(__isShared(p));
#endif
}
__device__ inline void assume_global([[maybe_unused]] const void* p) {
#if !defined(LSIF_CUDA_EMULATED)
  __builtin_assume(__isGlobal(p));
#endif
}

// The cluster barrier, to be passed by all threads of a block: writes before a thread's arrive are visible to every
// thread after its wait.
__device__ inline void cluster_arrive() {
#if defined(LSIF_CUDA_EMULATED)
  ::emulated::Block::get().arrive_at_cluster(__FILE__, __LINE__);
#elif __CUDA_ARCH__ >= 900
  __syncwarp();  // "aligned" requires all threads of a warp together, but they may have left a loop one by one
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#else
  __trap();
#endif
}
__device__ inline void cluster_wait() {
#if defined(LSIF_CUDA_EMULATED)
  ::emulated::Block::get().wait_for_cluster(__FILE__, __LINE__);
#elif __CUDA_ARCH__ >= 900
  __syncwarp();
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
  __trap();
#endif
}

__device__ inline void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

// The index of this thread in the grid.
__device__ inline int64_t global_thread() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

// The number of leading elements i of [0, n) with is_before(i); all of these must come first.
template <typename Predicate>
__device__ int64_t partition_point(int64_t n, Predicate is_before) {
  int64_t low = 0;
  int64_t high = n;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (is_before(middle)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The logit after the decay by the event's age.
__device__ inline float aged(float logit, const float* decay, int64_t interest, int64_t time, int64_t newest) {
  if (decay == nullptr || time == kUnknownTime || newest == kUnknownTime) return logit;
  const double days = static_cast<double>(elapsed(time, newest)) / kSecondsPerDay;
  return logit - decay[interest] * static_cast<float>(days);
}

__device__ inline float silu(float z) { return z / (1.0f + expf(-z)); }

// silu() without the branches of a division, so that several overlap: z / (1 + e), with an approximate inverse of
// relative error at most 2^-22 and one Newton step, which leaves one or two roundings. Error at most 7 2^-24 of the
// result, and 2^-119 if 1 + e exceeds 2^126, where the result is 0.
__device__ inline float smooth_silu(float z) {
  const float d = 1.0f + expf(-z);
#if defined(LSIF_CUDA_EMULATED)
  const float inverse = d > 0x1p126f ? 0.0f : 1.0f / d;
#else
  const float inverse = __fdividef(1.0f, d);
#endif
  const float quotient = z * inverse;
  return d > 0x1p126f ? quotient : fmaf(fmaf(-d, quotient, z), inverse, quotient);
}

__device__ inline float activate(float z, Activation activation) {
  switch (activation) {
    case Activation::kIdentity:
      break;
    case Activation::kRelu:
      return z > 0.0f ? z : 0.0f;
    case Activation::kGelu:
      return z * normcdff(z);
    case Activation::kSilu:
      return silu(z);
  }
  return z;
}

// Rounds to 8 bits of precision, to nearest, ties to even.
__device__ inline float to_bf16(float x) {
  const uint32_t bits = __float_as_uint(x);
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return __uint_as_float((is_nan ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u);
}

// A weighted sum divided by the sum of weights; 0 if all weights are 0, as when all logits are -inf.
template <typename T>
__device__ T weighted_mean(T sum, T total) {
  return total == 0 ? T{0} : sum / total;
}

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};

struct Max {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// Reduces over the 32 threads of a warp, all of which must call; every thread gets the same bits.
template <typename Op>
__device__ float warp_reduce(float x, Op op) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x = op(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

// Reduces several values at once.
template <int kCount, typename Op>
__device__ void warp_reduce(float (&x)[kCount], Op op) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    for (int i = 0; i < kCount; ++i) x[i] = op(x[i], __shfl_xor_sync(0xffffffffu, x[i], offset));
  }
}

// Shared memory of a block. It is declared in non-template functions because tests/cuda_emulation/ needs that.
namespace {

__device__ inline float* shared_partials() {
  __shared__ float partials[kThreads / kWarp];
  return partials;
}

__device__ inline float* shared_weights() {
  __shared__ float weights[kThreads];
  return weights;
}

}  // namespace

// Reduces over the kThreads threads of a block, all of which must call.
template <typename Op>
__device__ float block_reduce(float x, Op op) {
  float* partial = shared_partials();
  x = warp_reduce(x, op);
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = x;
  __syncthreads();
  x = partial[0];
  for (int warp = 1; warp < kThreads / kWarp; ++warp) x = op(x, partial[warp]);
  __syncthreads();  // the next call writes to `partial`
  return x;
}

// y[c] = sum_j weight_j values[j * stride + c] for `dim` columns, by the kThreads threads of a block, all of which must
// call. weight_j is softmax_j(score(j)) or, without kSoftmax, score(j); the result is zero if n = 0 or all scores are
// -inf. Scores are processed kThreads at a time, with a running maximum and denominator, so n is unlimited. Each column
// belongs to one thread, which keeps its sum in y.
template <bool kSoftmax, typename Score>
__device__ void weighted_sum(int64_t n, Score score, const float* values, int64_t stride, int64_t dim, float* y) {
  float* weights = shared_weights();
  constexpr float kLowest = -__builtin_inff();
  float maximum = kLowest;
  float denominator = 0.0f;
  for (int64_t c = threadIdx.x; c < dim; c += kThreads) y[c] = 0.0f;
  for (int64_t begin = 0; begin < n; begin += kThreads) {
    const int64_t count = n - begin < kThreads ? n - begin : kThreads;
    const bool is_used = threadIdx.x < count;
    float weight = is_used ? score(begin + threadIdx.x) : 0.0f;
    float shrink = 1.0f;
    if constexpr (kSoftmax) {
      const float top = fmaxf(maximum, block_reduce(is_used ? weight : kLowest, Max()));
      // If all scores so far are -inf: any finite reference gives weights 0, while -inf would give NaN.
      const float reference = top == kLowest ? 0.0f : top;
      shrink = expf(maximum - reference);
      weight = is_used ? expf(weight - reference) : 0.0f;
      denominator = denominator * shrink + block_reduce(weight, Sum());
      maximum = top;
    }
    weights[threadIdx.x] = weight;
    __syncthreads();
    for (int64_t c = threadIdx.x; c < dim; c += kThreads) {
      float total = y[c] * shrink;
      for (int64_t j = 0; j < count; ++j) total = fmaf(weights[j], values[(begin + j) * stride + c], total);
      y[c] = total;
    }
    __syncthreads();  // the next chunk writes to `weights`
  }
  if constexpr (kSoftmax) {
    if (denominator == 0.0f) return;
    for (int64_t c = threadIdx.x; c < dim; c += kThreads) y[c] /= denominator;
  }
}

}  // namespace lsif::cuda
