#include "engine/versioned_memory.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lsif::engine {
namespace {

constexpr std::align_val_t kAlignment{64};
constexpr int64_t kLeastPiece = int64_t{64} << 10;  // several pages, of whatever size those are
// To begin with, up to twice as many. Each is a mapping, of which a process may have some 65,000.
constexpr int64_t kPieces = 512;
constexpr int64_t kMostPieces = 4 * kPieces;

}  // namespace

#if defined(__linux__)

bool VersionedMemory::map(const VersionedMemory* before, int64_t old_size, const std::vector<Range>& changing) {
  const auto pieces_of = [&](int64_t bytes) { return (bytes + piece_size_ - 1) / piece_size_; };
  if (before != nullptr) {
    piece_size_ = before->piece_size_;
    num_pieces_ = pieces_of(size_);
    if (num_pieces_ > kMostPieces) return false;
  } else {
    piece_size_ = std::max(kLeastPiece, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(size_ / kPieces))));
    num_pieces_ = pieces_of(size_);
  }
  std::vector<bool> is_new(static_cast<size_t>(num_pieces_), before == nullptr);
  const auto renew = [&](const Range& range) {
    for (int64_t i = range.begin / piece_size_; i * piece_size_ < range.end; ++i) is_new[i] = true;
  };
  for (const Range& range : changing) renew(range);
  if (size_ > old_size) renew({old_size, size_});
  if (!map_pieces(before, is_new)) return false;
  num_shared_ = std::count(is_new.begin(), is_new.end(), false);
  if (before == nullptr) return true;
  for (int64_t i = 0; i < num_pieces_; ++i) {
    const int64_t begin = i * piece_size_;
    const int64_t end = std::min(begin + piece_size_, old_size);
    if (is_new[i] && end > begin) std::memcpy(data_ + begin, before->data_ + begin, static_cast<size_t>(end - begin));
  }
#if defined(MADV_POPULATE_READ)
  // So that no request waits for page after page; only advice (since Linux 5.14).
  (void)madvise(data_, static_cast<size_t>(num_pieces_ * piece_size_), MADV_POPULATE_READ);
#endif
  return true;
}

bool VersionedMemory::map_pieces(const VersionedMemory* before, const std::vector<bool>& is_new) {
  const auto size = static_cast<size_t>(piece_size_);
  const size_t all = size * static_cast<size_t>(num_pieces_);
  void* range = mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) return false;
  data_ = static_cast<std::byte*>(range);
  for (int64_t i = 0; i < num_pieces_; ++i) {
    std::byte* place = data_ + i * piece_size_;
    // Of a shared mapping of which nothing (size 0) is moved the new place becomes another one.
    void* mapped = is_new[i] ? mmap(place, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
                             : mremap(before->data_ + i * piece_size_, 0, size, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    if (mapped == MAP_FAILED) {
      (void)munmap(data_, all);
      return false;
    }
  }
  return true;
}

#else

bool VersionedMemory::map(const VersionedMemory*, int64_t, const std::vector<Range>&) { return false; }

#endif

VersionedMemory::VersionedMemory(const void* old, int64_t old_size, const VersionedMemory* before, int64_t size,
                                 const std::vector<Range>& changing)
    : size_(size) {
  if (before != nullptr && before->is_mapped() && map(before, old_size, changing)) return;
  if (size_ < kLeastMapped || !map(nullptr, old_size, changing)) {
    num_pieces_ = 0;
    data_ = static_cast<std::byte*>(::operator new[](static_cast<size_t>(size_), kAlignment));
    std::memset(data_ + old_size, 0, static_cast<size_t>(size_ - old_size));
  }
  if (old_size > 0) std::memcpy(data_, old, static_cast<size_t>(old_size));
}

VersionedMemory::~VersionedMemory() {
#if defined(__linux__)
  if (is_mapped()) {
    (void)munmap(data_, static_cast<size_t>(num_pieces_ * piece_size_));
    return;
  }
#endif
  ::operator delete[](data_, kAlignment);
}

}  // namespace lsif::engine
