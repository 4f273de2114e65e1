// The emulation itself: kernels with the mistakes it is there to find, and the same kernels without them.
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "check.h"
#include "kernels/cuda/device.cuh"

namespace {

using emulated::Order;
using lsif::cuda::kThreads;
using lsif::cuda::kWarp;

constexpr Order kOrders[] = {Order::kAscending, Order::kDescending, Order::kShuffled};

// Each thread hands a number to the next one.
__global__ void rotate_kernel(int* y, bool with_barrier) {
  __shared__ int shared[kThreads];
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (with_barrier) __syncthreads();
  y[threadIdx.x] = shared[(threadIdx.x + 1) % kThreads];
}

// The second round overwrites what the first has not read yet.
__global__ void rotate_twice_kernel(int* y, bool with_barrier) {
  __shared__ int shared[kThreads];
  for (int round = 0; round < 2; ++round) {
    shared[threadIdx.x] = static_cast<int>(threadIdx.x) + round * kThreads;
    __syncthreads();
    y[round * kThreads + static_cast<int>(threadIdx.x)] = shared[(threadIdx.x + 1) % kThreads];
    if (with_barrier) __syncthreads();
  }
}

// A warp that does not wait is a round ahead.
__global__ void reduce_twice_kernel(int* y, bool with_barrier) {
  __shared__ int shared[kThreads / kWarp];
  for (int round = 0; round < 2; ++round) {
    const int sum = static_cast<int>(threadIdx.x) / kWarp + __shfl_sync(0xffffffffu, 10 * round, 0);
    if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = sum;
    __syncthreads();
    y[round * kThreads + static_cast<int>(threadIdx.x)] = shared[(threadIdx.x / kWarp + 1) % (kThreads / kWarp)];
    if (with_barrier) __syncthreads();
  }
}

__global__ void warp_kernel(int* y) {
  const int x = static_cast<int>(threadIdx.x);
  int sum = x;
  for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  y[x] = sum + __shfl_up_sync(0xffffffffu, x, 1) + __shfl_sync(0xffffffffu, x, 5);
}

__global__ void uninitialised_kernel(int* y) {
  __shared__ int shared[kThreads];
  y[threadIdx.x] = shared[threadIdx.x];
  shared[threadIdx.x] = 7;
}

// mode 0: half of the threads skip a barrier; 1: they wait at another one; 2: half of a warp does not shuffle.
__global__ void diverging_kernel(int* y, int mode) {
  const bool is_half = threadIdx.x % 2 == 0;
  if (mode == 2 && is_half) {
    y[0] = __shfl_sync(0xffffffffu, 1, 0);
  } else if (is_half) {
    __syncthreads();
  } else if (mode == 1) {
    __syncthreads();
  }
}

// Each block hands a number to the next one of its cluster, whose last block has nothing to do.
__global__ void rotate_blocks_kernel(int* y, bool with_barrier) {
  const int cluster = 4;
  const auto block = static_cast<int>(blockIdx.x);
  if (block % cluster == cluster - 1) return;
  if (threadIdx.x == 0) y[2 * block] = 10 * block;
  lsif::cuda::cluster_arrive();
  if (with_barrier) lsif::cuda::cluster_wait();
  const int next = block % cluster == cluster - 2 ? block - block % cluster : block + 1;
  if (threadIdx.x == 0) y[2 * block + 1] = y[2 * next];
}

// mode 0: a block of two does not come; 1: one arrives twice; 2: one waits that has not arrived; 3: half of a warp does
// not wait.
__global__ void misused_cluster_kernel(int mode) {
  const bool is_second = blockIdx.x == 1;
  if (mode == 0 && is_second) __syncthreads(), __syncthreads();
  if (mode == 0 && is_second && threadIdx.x > 0) __syncthreads();
  if (mode != 2 || !is_second) lsif::cuda::cluster_arrive();
  if (mode == 1 && is_second) lsif::cuda::cluster_arrive();
  if (mode != 3 || threadIdx.x % 2 == 0) lsif::cuda::cluster_wait();
}

__global__ void idle_kernel() {}

template <typename... Args>
std::vector<int> run(Order order, int size, void (*kernel)(int*, Args...), Args... args) {
  emulated::fixed_order = order;
  std::vector<int> y(static_cast<size_t>(size), -1);
  CHECK(lsif::cuda::launch(kernel, 1, kThreads, nullptr, y.data(), args...) == cudaSuccess);
  return y;
}

template <typename Body>
bool survives(Body body) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (std::freopen("/dev/null", "w", stdout) != nullptr) body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(a_missing_barrier_shows_in_some_order) {
  for (void (*kernel)(int*, bool) : {rotate_kernel, rotate_twice_kernel, reduce_twice_kernel}) {
    std::set<std::vector<int>> with;
    std::set<std::vector<int>> without;
    for (const Order order : kOrders) {
      with.insert(run(order, 2 * kThreads, kernel, true));
      without.insert(run(order, 2 * kThreads, kernel, false));
    }
    CHECK(with.size() == 1);
    CHECK(without.size() > 1);
    const int step = kernel == reduce_twice_kernel ? kWarp : 1;
    for (int t = 0; t < kThreads; ++t) CHECK((*with.begin())[t] == (t / step + 1) % (kThreads / step));
  }
}

TEST(a_missing_barrier_of_a_cluster_shows_in_some_order) {
  std::set<std::vector<int>> with;
  std::set<std::vector<int>> without;
  for (const Order order : kOrders) {
    for (const bool with_barrier : {true, false}) {
      emulated::fixed_order = order;
      std::vector<int> y(16, -1);
      CHECK(lsif::cuda::launch_clusters(rotate_blocks_kernel, 8, 4, kThreads, 0, nullptr, y.data(), with_barrier) ==
            cudaSuccess);
      (with_barrier ? with : without).insert(y);
    }
  }
  const std::vector<int> rotated = {0, 10, 10, 20, 20, 0, -1, -1, 40, 50, 50, 60, 60, 40, -1, -1};
  CHECK(with == std::set{rotated});
  CHECK(without.size() > 1);
}

TEST(a_cluster_that_cannot_go_on_stops_the_program) {
  for (int mode = 0; mode < 5; ++mode) {
    const auto body = [mode] { lsif::cuda::launch_clusters(misused_cluster_kernel, 2, 2, kThreads, 0, nullptr, mode); };
    CHECK(survives(body) == (mode == 4));
  }
  CHECK(lsif::cuda::launch_clusters(idle_kernel, 3, 2, kThreads, 0, nullptr) == cudaErrorInvalidConfiguration);
}

TEST(shuffles_are_those_of_the_warp) {
  for (const Order order : kOrders) {
    const std::vector<int> y = run(order, kThreads, warp_kernel);
    for (int t = 0; t < kThreads; ++t) {
      const int first = t / kWarp * kWarp;
      const int sum = kWarp * first + kWarp * (kWarp - 1) / 2;
      CHECK(y[t] == sum + (t == first ? t : t - 1) + first + 5);
    }
  }
}

TEST(shared_memory_begins_as_nothing_useful) {
  for (int round = 0; round < 2; ++round) {
    for (const int value : run(Order::kAscending, kThreads, uninitialised_kernel)) CHECK(value == -1);
  }
}

// Without the attribute that launch_shared() sets.
cudaError_t launch_idle(int shared) {
  cudaLaunchConfig_t config = {};
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(shared);
  return cudaLaunchKernelEx(&config, idle_kernel);
}

TEST(a_launch_gets_no_more_shared_memory_than_its_kernel_was_allowed) {
  CHECK(launch_idle(48 << 10) == cudaSuccess);
  CHECK(launch_idle((48 << 10) + 1) == cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(idle_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 60 << 10) == cudaSuccess);
  CHECK(launch_idle(60 << 10) == cudaSuccess);
  CHECK(cudaFuncSetAttribute(idle_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 50 << 10) == cudaSuccess);
  CHECK(launch_idle(60 << 10) == cudaErrorInvalidValue);
}

// Between a launch and the attribute it has set there may be another one's, of another thread.
TEST(a_launch_with_less_shared_memory_refuses_none_with_more) {
  CHECK(lsif::cuda::launch_shared(idle_kernel, 1, kThreads, 50 << 10, nullptr) == cudaSuccess);
  CHECK(launch_idle(emulated::shared_memory_limit) == cudaSuccess);
  CHECK(lsif::cuda::launch_shared(idle_kernel, 1, kThreads, emulated::shared_memory_limit + 1, nullptr) ==
        cudaErrorInvalidValue);
}

TEST(threads_that_diverge_stop_the_program) {
  CHECK(survives([] { run(Order::kAscending, 2 * kThreads, rotate_kernel, true); }));
  for (int mode = 0; mode < 3; ++mode) {
    CHECK(!survives([=] { run(Order::kAscending, kThreads, diverging_kernel, mode); }));
  }
}

}  // namespace
