// One pool of threads for the whole process: liblsif.so has it, for the torch ops and the Python module alike.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace lsif::engine {

// A reference to a callable, void(int64_t task); the callable must outlive it.
class TaskRef {
 public:
  template <typename Fn, typename = std::enable_if_t<!std::is_same_v<std::remove_cvref_t<Fn>, TaskRef>>>
  TaskRef(Fn&& fn)  // NOLINT: implicit, so that a lambda can be passed as it is
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(fn)))),
        call_([](void* object, int64_t task) { (*static_cast<std::remove_reference_t<Fn>*>(object))(task); }) {}

  void operator()(int64_t task) const { call_(object_, task); }

 private:
  void* object_;
  void (*call_)(void*, int64_t);
};

// Calls fn(0) .. fn(num_tasks - 1), each once, on at most `threads` threads, the caller's among them, and returns when
// all are done. Any thread may call it at any time. The caller does all the work itself, in order, if threads <= 1, if
// the pool is busy with another caller (so also inside a task), or if no thread can be started. The first exception of
// a task is thrown again here; tasks not yet begun are then left out. A fork()ed child gets a pool of its own at its
// first call.
void parallel_for(int64_t num_tasks, int threads, TaskRef fn);

// How many threads this process may keep busy: its CPU affinity, cut to its cgroup's CPU quota (rounded up); at
// least 1.
int default_threads();

// An argument `threads` as a number of threads: 0 stands for default_threads(). Throws std::invalid_argument if it is
// negative or above 4096.
int check_threads(int64_t threads);

}  // namespace lsif::engine
