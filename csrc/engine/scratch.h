// Memory a thread reuses from call to call, handed out like a stack. In the steady state nothing is allocated, unless a
// call needs more than a thread may keep.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

namespace lsif::engine {

// Everything one Scratch handed out is taken back when it ends. Several may be alive on a thread if they end in reverse
// order.
class Scratch {
 public:
  // The most bytes a thread keeps when it has no Scratch: one very long history must not cost memory for ever.
  static constexpr size_t kMostKept = size_t{1} << 24;

  Scratch() : arena_(thread_arena()), mark_(arena_) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Uninitialised, 64-byte aligned; n may be 0.
  template <typename T>
  T* array(int64_t n) {
    static_assert(std::is_trivially_destructible_v<T> && alignof(T) <= 64);
    return static_cast<T*>(arena_.take(static_cast<size_t>(n) * sizeof(T)));
  }
  float* floats(int64_t n) { return array<float>(n); }
  int64_t* ints(int64_t n) { return array<int64_t>(n); }
  std::byte* bytes(int64_t n) { return array<std::byte>(n); }

  // The bytes this thread has allocated, in use or kept.
  static size_t size_of_thread() { return thread_arena().size; }

 private:
  struct Block {
    struct Deleter {
      void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t(64)); }
    };
    explicit Block(size_t bytes)
        : data(static_cast<std::byte*>(::operator new[](bytes, std::align_val_t(64)))), size(bytes) {}
    std::unique_ptr<std::byte, Deleter> data;
    size_t size;
  };

  struct Arena {
    void* take(size_t bytes) {
      bytes = (bytes + 63) / 64 * 64;
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
      return p;
    }

    void give_back_to(size_t earlier_current, size_t earlier_used) {
      current = earlier_current;
      used = earlier_used;
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
  // Gives back what was handed out during its life.
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
