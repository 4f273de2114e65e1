#include "engine/codes.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "engine/cell_coder.h"
#include "engine/float_rows.h"
#include "engine/refuse.h"
#include "engine/thread_pool.h"

namespace lsif::engine {
namespace {

constexpr char kMagic[8] = {'l', 's', 'i', 'f', 'c', 'o', 'd', 'e'};
constexpr uint32_t kVersion = 1;         // rows in their own order: the header and groups of rows
constexpr uint32_t kOrderedVersion = 2;  // also groups of cells and of regions, and the order
constexpr int64_t kValuesPerTask = 1 << 18;

struct Header {
  char magic[8];
  uint32_t version;
  float row_size;
  int64_t num_items;
  int64_t dim;
  float bias_size;
  uint32_t by_length;      // 1: RowOrder::by_length, 0: not. It affects how rows are scanned, not the results
  uint32_t has_unbounded;  // 1: some group has, or once had, a row whose norm exceeds float32, and is never dropped
  char unused[20];
};
static_assert(sizeof(Header) == kLineBytes);

// Requests huge pages, which reduce the TLB misses of a scan of many megabytes. Works best before the memory is first
// written; only a hint.
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

void raise(std::atomic<float>& largest, float x) {
  float known = largest.load();
  while (x > known && !largest.compare_exchange_weak(known, x)) {
  }
}

std::string shape_of(int64_t num_items, int64_t dim) { return std::to_string(num_items) + " x " + std::to_string(dim); }

// The parts of codes, in order of storage; the last three exist only in the second version.
enum Part { kRows, kCells, kRegions, kOrder, kEnd };

// The number of catalogue rows in a row, a cell and a region.
constexpr int64_t kRowsEach[] = {1, kCellRows, kRegionRows};

int64_t begin_of(Part part, int64_t num_items, int64_t dim) {
  int64_t begin = sizeof(Header);
  for (int p = kRows; p < part && p < kOrder; ++p) {
    begin += num_groups(divide_up(num_items, kRowsEach[p])) * group_bytes(dim);
  }
  return part == kEnd ? begin + divide_up(num_items * 4, kLineBytes) * kLineBytes : begin;
}

Header new_header(int64_t num_items, int64_t dim, const RowOrder& order) {
  Header header{};
  std::copy(std::begin(kMagic), std::end(kMagic), header.magic);
  header.version = order.rows.empty() ? kVersion : kOrderedVersion;
  header.by_length = order.by_length ? 1 : 0;
  header.num_items = num_items;
  header.dim = dim;
  return header;
}

// Codes groups of a part, and raises the header's size bounds to cover them.
void write_groups(const SlotRows& rows, Part part, const std::vector<int64_t>& groups, Header& header, uint8_t* codes,
                  int threads) {
  const int64_t rows_each = kRowsEach[part];
  const int64_t step = std::max<int64_t>(1, kValuesPerTask / (rows_each * kGroupRows * rows.dim));
  const auto num_coded = static_cast<int64_t>(groups.size());
  uint8_t* lines = codes + begin_of(part, rows.num_items, rows.dim);
  std::atomic<float> row_size{header.row_size};
  std::atomic<float> bias_size{header.bias_size};
  std::atomic<bool> has_unbounded{header.has_unbounded != 0};
  parallel_for(divide_up(num_coded, step), threads, [&](int64_t task) {
    GroupCoder coder(rows.dim);
    CellCoder cells(rows, rows_each, coder);
    const int64_t end = std::min(num_coded, (task + 1) * step);
    for (int64_t i = task * step; i < end; ++i) {
      uint8_t* group = lines + groups[i] * group_bytes(rows.dim);
      if (part == kRows) {
        coder.write(group_of(rows, groups[i]), group);
      } else {
        cells.write(groups[i], group);
      }
    }
    raise(row_size, coder.row_size());
    raise(bias_size, coder.bias_size());
    if (coder.has_unbounded()) has_unbounded = true;
  });
  header.row_size = row_size.load();
  header.bias_size = bias_size.load();
  header.has_unbounded = has_unbounded.load() ? 1 : 0;
}

// The groups of a part that contain any of these slots; slots ascend.
std::vector<int64_t> groups_of(const std::vector<int64_t>& slots, Part part) {
  std::vector<int64_t> groups;
  for (const int64_t slot : slots) {
    const int64_t group = slot / (kRowsEach[part] * kGroupRows);
    if (groups.empty() || groups.back() != group) groups.push_back(group);
  }
  return groups;
}

std::vector<int64_t> all_groups(int64_t num_items, Part part) {
  std::vector<int64_t> groups(static_cast<size_t>(num_groups(divide_up(num_items, kRowsEach[part]))));
  std::iota(groups.begin(), groups.end(), int64_t{0});
  return groups;
}

void write_order(const std::vector<int32_t>& order, int64_t dim, uint8_t* codes) {
  const auto num_items = static_cast<int64_t>(order.size());
  uint8_t* bytes = codes + begin_of(kOrder, num_items, dim);
  std::memset(bytes, 0, static_cast<size_t>(codes + begin_of(kEnd, num_items, dim) - bytes));
  std::memcpy(bytes, order.data(), order.size() * sizeof(int32_t));
}

std::vector<int32_t> read_order(const uint8_t* codes, int64_t num_items, int64_t dim) {
  std::vector<int32_t> order(static_cast<size_t>(num_items));
  std::memcpy(order.data(), codes + begin_of(kOrder, num_items, dim), order.size() * sizeof(int32_t));
  return order;
}

// Codes come from files: an invalid row would be read, and a missing one never found.
void check_order(const uint8_t* codes, int64_t num_items, int64_t dim) {
  std::vector<bool> is_met(static_cast<size_t>(num_items));
  const uint8_t* bytes = codes + begin_of(kOrder, num_items, dim);
  for (int64_t slot = 0; slot < num_items; ++slot) {
    int32_t item = 0;
    std::memcpy(&item, bytes + slot * 4, sizeof(item));
    if (item < 0 || item >= num_items || is_met[item]) {
      refuse("codes", "an order with each row in [0, " + std::to_string(num_items) + ") once",
             std::to_string(item) + " in place " + std::to_string(slot));
    }
    is_met[item] = true;
  }
}

// Reads and checks the header of codes of a catalogue of this shape.
Header read_header(const uint8_t* codes, int64_t size, int64_t num_items, int64_t dim) {
  Header header{};
  if (size >= static_cast<int64_t>(sizeof(header))) std::memcpy(&header, codes, sizeof(header));
  const bool is_ordered = header.version == kOrderedVersion;
  const int64_t wanted = codes_size(num_items, dim, is_ordered);
  if (size != wanted) {
    refuse("codes", std::to_string(wanted) + " bytes for " + shape_of(num_items, dim) + " vectors",
           std::to_string(size));
  }
  if (!std::equal(std::begin(kMagic), std::end(kMagic), header.magic)) {
    refuse("codes", "codes of a catalogue", "other bytes");
  }
  if (header.version != kVersion && !is_ordered) {
    refuse("codes", "version " + std::to_string(kVersion) + " or " + std::to_string(kOrderedVersion),
           std::to_string(header.version));
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

int64_t codes_size(int64_t num_items, int64_t dim, bool is_ordered) {
  if (dim < 1 || dim > kMaxScoreDim) {
    refuse("vectors", "1 to " + std::to_string(kMaxScoreDim) + " dimensions", std::to_string(dim));
  }
  return begin_of(is_ordered ? kEnd : kCells, num_items, dim);
}

void write_codes(const float* vectors, const float* bias, int64_t num_items, int64_t dim, const RowOrder& order,
                 uint8_t* codes, int threads) {
  const bool has_order = !order.rows.empty();
  advise_huge_pages(codes, codes_size(num_items, dim, has_order));
  const SlotRows rows = {vectors, bias, num_items, dim, has_order ? order.rows.data() : nullptr};
  Header header = new_header(num_items, dim, order);
  for (const Part part : {kRows, kCells, kRegions}) {
    if (part != kRows && !has_order) break;
    write_groups(rows, part, all_groups(num_items, part), header, codes, threads);
  }
  if (has_order) write_order(order.rows, dim, codes);
  std::memcpy(codes, &header, sizeof(header));
}

bool is_ordered(const CodedRows& coded, int64_t dim) {
  return read_header(coded.codes, coded.size, coded.num_items, dim).version == kOrderedVersion;
}

void update_codes(const CodedRows& old, const float* vectors, const float* bias, int64_t num_items, int64_t dim,
                  const int64_t* changed, int64_t num_changed, uint8_t* codes, int threads) {
  Header header = read_header(old.codes, old.size, old.num_items, dim);
  if (old.num_items > num_items) {
    refuse("vectors", "at least the " + std::to_string(old.num_items) + " rows that are coded",
           std::to_string(num_items));
  }
  std::vector<bool> is_stale(static_cast<size_t>(num_items));
  std::fill(is_stale.begin() + old.num_items, is_stale.end(), true);
  check_rows("changed", changed, num_changed, num_items);
  for (int64_t i = 0; i < num_changed; ++i) is_stale[changed[i]] = true;
  const bool has_order = header.version == kOrderedVersion;
  std::vector<int32_t> order;
  if (has_order) {
    check_order(old.codes, old.num_items, dim);
    order = read_order(old.codes, old.num_items, dim);
    for (int64_t item = old.num_items; item < num_items; ++item) order.push_back(static_cast<int32_t>(item));
  }
  const SlotRows rows = {vectors, bias, num_items, dim, has_order ? order.data() : nullptr};
  std::vector<int64_t> stale;
  for (int64_t slot = 0; slot < num_items; ++slot) {
    const int64_t item = rows.item(slot);
    if (!is_stale[item]) continue;
    const int64_t row_shape[] = {1, dim};
    require_finite("vectors", rows.row(slot), row_shape, 1, item);
    if (bias != nullptr) require_finite("bias", bias + item, {row_shape, 1}, 1, item);
    stale.push_back(slot);
  }
  advise_huge_pages(codes, codes_size(num_items, dim, has_order));
  header.num_items = num_items;
  for (const Part part : {kRows, kCells, kRegions}) {
    if (part != kRows && !has_order) break;
    const int64_t begin = begin_of(part, old.num_items, dim);
    const int64_t end = begin_of(static_cast<Part>(part + 1), old.num_items, dim);
    std::memcpy(codes + begin_of(part, num_items, dim), old.codes + begin, static_cast<size_t>(end - begin));
    write_groups(rows, part, groups_of(stale, part), header, codes, threads);
  }
  if (has_order) write_order(order, dim, codes);
  std::memcpy(codes, &header, sizeof(header));
}

CodesView view_codes(const uint8_t* codes, int64_t size, int64_t num_items, int64_t dim) {
  const Header header = read_header(codes, size, num_items, dim);
  CodesView view = {codes + sizeof(Header), header.row_size, header.bias_size};
  view.longest_row = header.has_unbounded != 0 ? std::numeric_limits<float>::infinity() : header.row_size;
  if (header.version == kOrderedVersion) {
    check_order(codes, num_items, dim);
    view.cells = codes + begin_of(kCells, num_items, dim);
    view.regions = codes + begin_of(kRegions, num_items, dim);
    view.order = codes + begin_of(kOrder, num_items, dim);
    view.by_length = header.by_length != 0;
  }
  return view;
}

}  // namespace lsif::engine
