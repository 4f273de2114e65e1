// Memory whose versions share what they have in common                            (docs/serving.md, "A live catalogue")
//
// A catalogue that changes under load has new matrices after each change, beside those that requests still read. Here a
// version is a range of addresses made of pieces, each of which the kernel keeps as long as any version, of this
// process or of one forked from it, has it mapped: those that change are new, all others are those of the version
// before (mremap(2) of shared mappings, which leaves the old one where it is). So a change takes the time and the memory
// of what it changes, in whole pieces. Small memory, and all of it where this does not work, is copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lsif::engine {

class VersionedMemory {
 public:
  struct Range {
    int64_t begin;  // in bytes
    int64_t end;
  };

  // Below it copies are as cheap.
  static constexpr int64_t kLeastMapped = int64_t{4} << 20;

  // A version of `size` bytes that begins with the old_size <= size bytes at `old`, which are the first of `before`
  // unless that is null. What lies in `changing` and behind old_size may be written to until somebody else reads the
  // version; behind old_size are zeros. Throws std::bad_alloc.
  VersionedMemory(const void* old, int64_t old_size, const VersionedMemory* before, int64_t size,
                  const std::vector<Range>& changing);
  ~VersionedMemory();
  VersionedMemory(const VersionedMemory&) = delete;
  VersionedMemory& operator=(const VersionedMemory&) = delete;

  std::byte* data() const { return data_; }
  int64_t size() const { return size_; }
  bool is_mapped() const { return num_pieces_ > 0; }
  // How many pieces of how many bytes; and how many of them are those of the version before, which need not be there
  // any more.
  int64_t num_pieces() const { return num_pieces_; }
  int64_t piece_size() const { return piece_size_; }
  int64_t num_shared() const { return num_shared_; }

 private:
  bool map(const VersionedMemory* before, int64_t old_size, const std::vector<Range>& changing);
  bool map_pieces(const VersionedMemory* before, const std::vector<bool>& is_new);

  std::byte* data_ = nullptr;
  int64_t size_;
  int64_t num_pieces_ = 0;  // 0: data_ was allocated
  int64_t piece_size_ = 0;
  int64_t num_shared_ = 0;
};

}  // namespace lsif::engine
