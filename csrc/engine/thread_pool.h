// One thread pool for the whole process. It lives in liblsif.so, which the torch ops and the Python module share.
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

// Calls each of fn(0) .. fn(num_tasks - 1) once, on at most `threads` threads including the caller's, and returns when
// all are done. May be called from any thread at any time. The caller runs all tasks itself, in order, if threads <= 1,
// if the pool is busy with another call (so also inside a task), or if no thread can be started. The first exception of
// a task is rethrown here; tasks not yet begun are then skipped. A fork()ed child gets its own pool at its first call.
void parallel_for(int64_t num_tasks, int threads, TaskRef fn);

// How many threads this process may keep busy: its CPU affinity, limited by its cgroup's CPU quota (rounded up); at
// least 1.
int default_threads();

// The number of threads for an argument `threads`; 0 means default_threads(). Throws std::invalid_argument if it is
// negative or above 4096.
int check_threads(int64_t threads);

}  // namespace lsif::engine
