// What ops keep from one call to the next: an encoder or a catalogue, checked once and then named by a number.
//
// torch.ops.lsif are pure functions of tensors, which check every value at every call: on a GPU each waits for the
// copies it checks. torch.ops.lsif_kept work on what is kept, look at shapes, types and places alone, and wait for
// nothing. Who calls them has checked the values (docs/cuda.md, "Kept").
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "engine/refuse.h"

namespace lsif::ops {

// Part of the number, so that none is taken for one of another kind.
enum KeptKind : int64_t { kCpuEncoder, kCpuCatalog, kCudaEncoder, kCudaCatalog, kNumKinds };

template <typename T, KeptKind kKind>
class Kept {
 public:
  // Never destroyed: at the end of a process torch's allocators may go first.
  static Kept& all() {
    static Kept& kept = *new Kept;
    return kept;
  }

  int64_t keep(std::shared_ptr<const T> object) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t number = next_++ * kNumKinds + kKind;
    objects_[number] = std::move(object);
    return number;
  }

  // Lives at least as long as the caller holds it, dropped or not.
  std::shared_ptr<const T> get(const char* argument, int64_t number) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = objects_.find(number);
    if (found != objects_.end()) return found->second;
    engine::refuse(argument, "the number of one that is kept on this device", std::to_string(number));
  }

  // Whether there was one.
  bool drop(int64_t number) {
    typename decltype(objects_)::node_type dropped;  // dies behind the lock, which every request takes
    const std::lock_guard<std::mutex> lock(mutex_);
    dropped = objects_.extract(number);
    return !dropped.empty();
  }

 private:
  std::mutex mutex_;
  std::unordered_map<int64_t, std::shared_ptr<const T>> objects_;
  int64_t next_ = 1;
};

}  // namespace lsif::ops
