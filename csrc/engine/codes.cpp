#include "engine/codes.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "engine/group_coder.h"
#include "engine/refuse.h"
#include "engine/thread_pool.h"

namespace lsif::engine {
namespace {

constexpr char kMagic[8] = {'l', 's', 'i', 'f', 'c', 'o', 'd', 'e'};
constexpr uint32_t kVersion = 1;
constexpr int64_t kValuesPerTask = 1 << 18;

struct Header {
  char magic[8];
  uint32_t version;
  float row_size;
  int64_t num_items;
  int64_t dim;
  float bias_size;
  char unused[28];
};
static_assert(sizeof(Header) == kLineBytes);

// Asks for large pages, where there is room for them: a scan of many megabytes otherwise waits for addresses. Best
// before the memory is first written to; only ever advice.
void advise_huge_pages(uint8_t* memory, int64_t size) {
#if defined(__linux__)
  constexpr int64_t kHugePage = int64_t{1} << 21;
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const auto skipped = static_cast<int64_t>((kHugePage - address % kHugePage) % kHugePage);
  const int64_t usable = (size - skipped) / kHugePage * kHugePage;
  if (usable > 0) (void)madvise(memory + skipped, static_cast<size_t>(usable), MADV_HUGEPAGE);
#else
  (void)memory, (void)size;
#endif
}

// Raises `largest` to at least x.
void raise(std::atomic<float>& largest, float x) {
  float known = largest.load();
  while (x > known && !largest.compare_exchange_weak(known, x)) {
  }
}

std::string shape_of(int64_t num_items, int64_t dim) { return std::to_string(num_items) + " x " + std::to_string(dim); }

struct Rows {
  const float* vectors;
  const float* bias;
  int64_t num_items;
  int64_t dim;
};

Header new_header(int64_t num_items, int64_t dim) {
  Header header{};
  std::copy(std::begin(kMagic), std::end(kMagic), header.magic);
  header.version = kVersion;
  header.num_items = num_items;
  header.dim = dim;
  return header;
}

// Codes the groups, and then writes the header with its sizes raised to theirs.
void write_groups(const Rows& rows, const std::vector<int64_t>& groups, Header header, uint8_t* codes, int threads) {
  const int64_t step = std::max<int64_t>(1, kValuesPerTask / (kGroupRows * rows.dim));
  const auto num_coded = static_cast<int64_t>(groups.size());
  std::atomic<float> row_size{header.row_size};
  std::atomic<float> bias_size{header.bias_size};
  parallel_for(divide_up(num_coded, step), threads, [&](int64_t task) {
    GroupCoder coder(rows.vectors, rows.bias, rows.num_items, rows.dim);
    const int64_t end = std::min(num_coded, (task + 1) * step);
    for (int64_t i = task * step; i < end; ++i) {
      coder.write(groups[i], codes + sizeof(Header) + groups[i] * group_bytes(rows.dim));
    }
    raise(row_size, coder.row_size());
    raise(bias_size, coder.bias_size());
  });
  header.row_size = row_size.load();
  header.bias_size = bias_size.load();
  std::memcpy(codes, &header, sizeof(header));
}

// The header of codes of a catalogue of this shape.
Header read_header(const uint8_t* codes, int64_t size, int64_t num_items, int64_t dim) {
  const int64_t wanted = codes_size(num_items, dim);
  if (size != wanted) {
    refuse("codes", std::to_string(wanted) + " bytes for " + shape_of(num_items, dim) + " vectors",
           std::to_string(size));
  }
  Header header;
  std::memcpy(&header, codes, sizeof(header));
  if (!std::equal(std::begin(kMagic), std::end(kMagic), header.magic))
    refuse("codes", "codes of a catalogue", "other bytes");
  if (header.version != kVersion) {
    refuse("codes", "version " + std::to_string(kVersion), std::to_string(header.version));
  }
  if (header.num_items != num_items || header.dim != dim) {
    refuse("codes", "those of " + shape_of(num_items, dim) + " vectors",
           "those of " + shape_of(header.num_items, header.dim));
  }
  if (!(header.row_size >= 0) || !std::isfinite(header.row_size) || !(header.bias_size >= 0) ||
      !std::isfinite(header.bias_size)) {
    refuse("codes", "finite sizes",
           "row_size " + std::to_string(header.row_size) + ", bias_size " + std::to_string(header.bias_size));
  }
  return header;
}

}  // namespace

int64_t codes_size(int64_t num_items, int64_t dim) {
  if (dim < 1 || dim > kMaxScoreDim) {
    throw std::invalid_argument("vectors: expected 1 to " + std::to_string(kMaxScoreDim) + " dimensions, got " +
                                std::to_string(dim));
  }
  return static_cast<int64_t>(sizeof(Header)) + num_groups(num_items) * group_bytes(dim);
}

void write_codes(const float* vectors, const float* bias, int64_t num_items, int64_t dim, uint8_t* codes, int threads) {
  advise_huge_pages(codes, codes_size(num_items, dim));
  std::vector<int64_t> groups(static_cast<size_t>(num_groups(num_items)));
  std::iota(groups.begin(), groups.end(), int64_t{0});
  write_groups({vectors, bias, num_items, dim}, groups, new_header(num_items, dim), codes, threads);
}

void update_codes(const CodedRows& old, const float* vectors, const float* bias, int64_t num_items, int64_t dim,
                  const int64_t* changed, int64_t num_changed, uint8_t* codes, int threads) {
  Header header = read_header(old.codes, old.size, old.num_items, dim);
  if (old.num_items > num_items) {
    throw std::invalid_argument("vectors: expected at least the " + std::to_string(old.num_items) +
                                " rows that are coded, got " + std::to_string(num_items));
  }
  std::vector<uint8_t> is_stale(static_cast<size_t>(num_groups(num_items)), 0);
  std::fill(is_stale.begin() + old.num_items / kGroupRows, is_stale.end(), uint8_t{1});
  for (int64_t i = 0; i < num_changed; ++i) {
    if (changed[i] < 0 || changed[i] >= num_items) {
      throw std::invalid_argument("changed: expected rows in [0, " + std::to_string(num_items) + "), got " +
                                  std::to_string(changed[i]));
    }
    is_stale[changed[i] / kGroupRows] = 1;
  }
  std::vector<int64_t> stale;
  for (int64_t group = 0; group < num_groups(num_items); ++group) {
    if (is_stale[group] != 0) stale.push_back(group);
  }
  advise_huge_pages(codes, codes_size(num_items, dim));
  std::memcpy(codes, old.codes, static_cast<size_t>(old.size));
  header.num_items = num_items;
  write_groups({vectors, bias, num_items, dim}, stale, header, codes, threads);
}

CodesView view_codes(const uint8_t* codes, int64_t size, int64_t num_items, int64_t dim) {
  const Header header = read_header(codes, size, num_items, dim);
  return {codes + sizeof(Header), header.row_size, header.bias_size};
}

}  // namespace lsif::engine
