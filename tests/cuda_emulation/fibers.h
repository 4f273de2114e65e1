// Runs the threads of a CUDA block one at a time on the CPU, each with a stack of its own, in an order that can be
// chosen. A thread runs until it must wait for others: at __syncthreads, or for its warp. So a barrier that is missing
// shows: one of the orders reads what another thread has not written yet, or has overwritten.
//
// Stops the program where threads diverge: some of a block, or of a warp, wait at one barrier, the others at another
// one or not at all; or where a cluster's blocks wait for one that waits, too.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "guarded.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

// Where `__shared__` variables lie (cuda_runtime.h).
extern "C" __attribute__((visibility("hidden"))) char __start_lsif_shared[], __stop_lsif_shared[];

namespace emulated {

enum class Order { kAscending, kDescending, kShuffled };

inline Order order = Order::kAscending;   // of the blocks of a launch, and of the threads of a block
inline std::optional<Order> fixed_order;  // or every launch draws one

inline std::mt19937& random() {
  static std::mt19937 engine(1);
  return engine;
}

inline int shared_memory_limit = 227 << 10;  // bytes a block may have, for tests to set
// So few that kernels for as many blocks as there is room for have some work for each; likewise.
inline int num_processors = 2;

inline void choose_order() { order = fixed_order ? *fixed_order : static_cast<Order>(random()() % 3); }

inline constexpr int kWarpThreads = 32;
inline constexpr int kSlotBytes = 64;

inline std::vector<int> in_order(int count) {
  std::vector<int> all(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) all[i] = order == Order::kDescending ? count - 1 - i : i;
  if (order == Order::kShuffled) std::shuffle(all.begin(), all.end(), random());
  return all;
}

struct Fiber {
  enum class State { kReady, kAtBlock, kAtWarp, kAtCluster, kDone };
  static constexpr size_t kStackBytes = 128 << 10;

  State state = State::kDone;
  const char* file = "";  // where it waits
  int line = 0;
  int exchanges = 0;
  int arrivals = 0;  // at the cluster's barrier
  int waits = 0;
  struct Copy {
    void* to;
    const void* from;
    size_t size;
  };
  std::vector<Copy> copies;  // asked for and not waited for
  bool is_started = false;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  ucontext_t start;
  jmp_buf resume;
};

// What the threads of a warp hand each other; two, as a thread may be one exchange ahead.
struct Warp {
  alignas(16) unsigned char slots[2][kWarpThreads][kSlotBytes];
};

// Or the blocks of a cluster, at the same time; these must do without `__shared__` variables, which exist once.
class Block {
 public:
  static Block& get() {
    static Block block;
    return block;
  }

  int thread() const { return current_ % block_threads_; }
  int block() const { return first_block_ + current_ / block_threads_; }

  unsigned char* dynamic_shared() { return dynamic_shared_[current_ / block_threads_].data(); }

  void arrive_at_cluster(const char* file, int line) {
    Fiber& fiber = *fibers_[current_];
    if (fiber.arrivals++ != fiber.waits) stop("arrives at the cluster's barrier twice", file, line);
  }

  void wait_for_cluster(const char* file, int line) {
    Fiber& fiber = *fibers_[current_];
    if (++fiber.waits != fiber.arrivals) stop("waits for the cluster without having arrived", file, line);
    wait(Fiber::State::kAtCluster, file, line);
  }

  // Asynchronous copies come at once or at the last moment: when the thread waits for them, if it does.
  void defer_copy(void* to, const void* from, size_t size) {
    if (order == Order::kDescending) {
      std::memcpy(to, from, size);
    } else {
      fibers_[current_]->copies.push_back({to, from, size});
    }
  }

  void finish_copies() {
    for (const auto& [to, from, size] : fibers_[current_]->copies) std::memcpy(to, from, size);
    fibers_[current_]->copies.clear();
  }

  // Runs body() as each of block_threads threads of num_blocks blocks from first_block on; shared memory begins as all
  // ones.
  void run(int first_block, int num_blocks, int block_threads, size_t dynamic_bytes,
           const std::function<void()>& body) {
    std::memset(__start_lsif_shared, 0xFF, static_cast<size_t>(__stop_lsif_shared - __start_lsif_shared));
    dynamic_shared_.clear();
    for (int b = 0; b < num_blocks; ++b)
      dynamic_shared_.emplace_back(static_cast<int64_t>((dynamic_bytes + 15) / 16 * 16));
    body_ = &body;
    first_block_ = first_block;
    block_threads_ = block_threads;
    num_threads_ = num_blocks * block_threads;
    while (static_cast<int>(fibers_.size()) < num_threads_) fibers_.push_back(std::make_unique<Fiber>());
    warps_.resize(static_cast<size_t>((num_threads_ + kWarpThreads - 1) / kWarpThreads));
    for (int t = 0; t < num_threads_; ++t) {
      fibers_[t]->state = Fiber::State::kReady;
      fibers_[t]->exchanges = fibers_[t]->arrivals = fibers_[t]->waits = 0;
      fibers_[t]->copies.clear();
    }
    do {
      for (const int b : in_order(num_blocks)) run_block(b * block_threads_);
    } while (release_cluster());
    const bool is_done = std::all_of(fibers_.begin(), fibers_.begin() + num_threads_,
                                     [](const auto& fiber) { return fiber->state == Fiber::State::kDone; });
    if (!is_done) report_divergence();
  }

  void wait(Fiber::State state, const char* file, int line) {
    Fiber& fiber = *fibers_[current_];
    fiber.state = state, fiber.file = file, fiber.line = line;
    leave(fiber);
  }

  // What all threads of the warp hand over at this place.
  template <typename T>
  std::array<T, kWarpThreads> exchange(const T& mine, const char* file, int line) {
    static_assert(sizeof(T) <= kSlotBytes);
    Warp& warp = warps_[current_ / kWarpThreads];
    auto& slots = warp.slots[fibers_[current_]->exchanges++ % 2];
    std::memcpy(slots[current_ % kWarpThreads], &mine, sizeof(T));
    wait(Fiber::State::kAtWarp, file, line);
    std::array<T, kWarpThreads> all;
    for (int lane = 0; lane < kWarpThreads; ++lane) std::memcpy(&all[lane], slots[lane], sizeof(T));
    return all;
  }

 private:
  static void run_fiber() {
    Block& block = get();
    finish_switch(nullptr);
    for (;;) {
      Fiber& fiber = *block.fibers_[block.current_];
      (*block.body_)();
      fiber.state = Fiber::State::kDone;
      block.leave(fiber);
    }
  }

  // As far as it gets without the others of its cluster.
  void run_block(int first) {
    const int num_warps = (block_threads_ + kWarpThreads - 1) / kWarpThreads;
    do {
      for (const int warp : in_order(num_warps)) run_warp(first + warp * kWarpThreads, first + block_threads_);
    } while (release(first, first + block_threads_, Fiber::State::kAtBlock));
  }

  // As far as it gets without the others, however far behind they are.
  void run_warp(int first, int end) {
    const int count = std::min(end - first, kWarpThreads);
    do {
      for (const int lane : in_order(count)) {
        if (fibers_[first + lane]->state == Fiber::State::kReady) enter(first + lane);
      }
    } while (release(first, first + count, Fiber::State::kAtWarp));
  }

  void enter(int t) {
    current_ = t;
    Fiber& fiber = *fibers_[t];
    void* fake_stack = nullptr;
    start_switch(&fake_stack, fiber.stack.get(), Fiber::kStackBytes);
    if (_setjmp(scheduler_) == 0) {
      if (fiber.is_started) _longjmp(fiber.resume, 1);
      fiber.is_started = true;
      getcontext(&fiber.start);
      fiber.start.uc_stack.ss_sp = fiber.stack.get();
      fiber.start.uc_stack.ss_size = Fiber::kStackBytes;
      makecontext(&fiber.start, run_fiber, 0);
      setcontext(&fiber.start);
    }
    finish_switch(fake_stack);
  }

  void leave(Fiber& fiber) {
    void* fake_stack = nullptr;
    start_switch(&fake_stack, scheduler_stack_, scheduler_size_);
    if (_setjmp(fiber.resume) == 0) _longjmp(scheduler_, 1);
    finish_switch(fake_stack);
  }

  // Lets go on who waits for as many arrivals as every thread has behind it that is not done, warps as a whole.
  bool release_cluster() {
    int fewest = INT_MAX;
    for (int t = 0; t < num_threads_; ++t) {
      if (fibers_[t]->state != Fiber::State::kDone) fewest = std::min(fewest, fibers_[t]->arrivals);
    }
    bool is_released = false;
    for (int t = 0; t < num_threads_; t += kWarpThreads) {
      if (fibers_[t]->arrivals > fewest) continue;
      is_released |= release(t, std::min(t + kWarpThreads, num_threads_), Fiber::State::kAtCluster);
    }
    return is_released;
  }

  // Lets threads go on if all of them wait at one place.
  bool release(int begin, int end, Fiber::State state) {
    const Fiber& first = *fibers_[begin];
    for (int t = begin; t < end; ++t) {
      const Fiber& fiber = *fibers_[t];
      if (fiber.state != state || fiber.line != first.line || std::strcmp(fiber.file, first.file) != 0) return false;
    }
    for (int t = begin; t < end; ++t) fibers_[t]->state = Fiber::State::kReady;
    return true;
  }

  [[noreturn]] void stop(const char* what, const char* file, int line) const {
    std::printf("Thread %d of block %d %s, at %s:%d\n", thread(), block(), what, file, line);
    std::fflush(stdout);
    std::abort();
  }

  [[noreturn]] void report_divergence() const {
    static const char* const kNames[] = {"is ready", "waits for the block", "waits for its warp",
                                         "waits for the cluster", "is done"};
    std::printf("The threads of a block diverge:\n");
    for (int t = 0; t < num_threads_; ++t) {
      const Fiber& f = *fibers_[t];
      std::printf("  thread %d %s, last at %s:%d\n", t, kNames[static_cast<int>(f.state)], f.file, f.line);
    }
    std::fflush(stdout);
    std::abort();
  }

#if defined(__SANITIZE_ADDRESS__)
  static void start_switch(void** fake_stack, const void* stack, size_t size) {
    __sanitizer_start_switch_fiber(fake_stack, stack, size);
  }
  static void finish_switch(void* fake_stack) {
    Block& block = get();
    const void* stack = nullptr;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(fake_stack, &stack, &size);
    if (fake_stack == nullptr && block.scheduler_stack_ == nullptr) {
      block.scheduler_stack_ = stack;
      block.scheduler_size_ = size;
    }
  }
#else
  static void start_switch(void**, const void*, size_t) {}
  static void finish_switch(void*) {}
#endif

  const std::function<void()>* body_ = nullptr;
  int first_block_ = 0;
  int block_threads_ = 1;
  int num_threads_ = 0;  // of all blocks
  int current_ = 0;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<guarded::Array<unsigned char>> dynamic_shared_;  // of each block
  std::vector<Warp> warps_;
  jmp_buf scheduler_;
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_size_ = 0;
};

}  // namespace emulated
