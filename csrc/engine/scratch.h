// Memory a thread reuses from call to call, handed out like a stack. In the steady state nothing is allocated, unless a
// call needs more than a thread may keep.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LSIF_ASAN
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(LSIF_ASAN)
#include <sanitizer/asan_interface.h>
#endif

namespace lsif::engine {

// The destructor takes back all memory this Scratch has handed out. Several may be alive on a thread if they are
// destroyed in reverse order.
class Scratch {
 public:
  // The most bytes a thread keeps while it has no Scratch, so that one very long history does not cost memory forever.
  static constexpr size_t kMostKept = size_t{1} << 24;

  Scratch() : arena_(thread_arena()), mark_(arena_) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Uninitialised, 64-byte aligned; n may be 0.
  template <typename T>
  T* array(int64_t n) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= 64);
    assert(n >= 0);
    return static_cast<T*>(arena_.take(static_cast<size_t>(n) * sizeof(T)));
  }
  float* floats(int64_t n) { return array<float>(n); }
  int64_t* ints(int64_t n) { return array<int64_t>(n); }
  std::byte* bytes(int64_t n) { return array<std::byte>(n); }

  // Bytes this thread has allocated, in use or kept.
  static size_t size_of_thread() { return thread_arena().size; }

 private:
  // For AddressSanitizer: poison all of a block that is not handed out, and leave a gap after each array.
#if defined(ASAN_POISON_MEMORY_REGION)
  static constexpr size_t kGap = 64;
  static void forbid(const void* p, size_t bytes) { ASAN_POISON_MEMORY_REGION(p, bytes); }
  static void permit(const void* p, size_t bytes) { ASAN_UNPOISON_MEMORY_REGION(p, bytes); }
#else
  static constexpr size_t kGap = 0;
  static void forbid(const void*, size_t) {}
  static void permit(const void*, size_t) {}
#endif

  struct Block {
    struct Deleter {
      void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t(64)); }
    };
    explicit Block(size_t bytes)
        : data(static_cast<std::byte*>(::operator new[](bytes, std::align_val_t(64)))), size(bytes) {
      forbid(data.get(), size);
    }
    std::unique_ptr<std::byte, Deleter> data;
    size_t size;
  };

  struct Arena {
    void* take(size_t wanted) {
      const size_t bytes = (wanted + 63) / 64 * 64 + kGap;
      while (current < blocks.size() && used + bytes > blocks[current].size) {
        ++current;
        used = 0;
      }
      if (current == blocks.size()) {
        const size_t last = blocks.empty() ? kFirstBlock / 2 : blocks.back().size;
        blocks.emplace_back(bytes > 2 * last ? bytes : 2 * last);
        size += blocks.back().size;
        used = 0;
      }
      void* p = blocks[current].data.get() + used;
      used += bytes;
      permit(p, wanted);
      return p;
    }

    void give_back_to(size_t earlier_current, size_t earlier_used) {
      current = earlier_current;
      used = earlier_used;
      for (size_t b = current; b < blocks.size(); ++b) {
        const size_t first = b == current ? used : 0;
        forbid(blocks[b].data.get() + first, blocks[b].size - first);
      }
      const bool is_all_back = current == 0 && used == 0;
      while (is_all_back && size > kMostKept) {
        size -= blocks.back().size;
        blocks.pop_back();
      }
    }

    static constexpr size_t kFirstBlock = size_t{1} << 18;
    std::vector<Block> blocks;
    size_t size = 0;  // of all blocks
    size_t current = 0;
    size_t used = 0;  // of the current block
  };

  static Arena& thread_arena();

 public:
  // On destruction, takes back what was handed out during its lifetime.
  class Mark {
   public:
    explicit Mark(Scratch& scratch) : Mark(scratch.arena_) {}
    explicit Mark(Arena& arena) : arena_(arena), current_(arena.current), used_(arena.used) {}
    Mark(const Mark&) = delete;
    Mark& operator=(const Mark&) = delete;
    ~Mark() { arena_.give_back_to(current_, used_); }

   private:
    Arena& arena_;
    const size_t current_;
    const size_t used_;
  };

 private:
  Arena& arena_;
  Mark mark_;
};

}  // namespace lsif::engine
