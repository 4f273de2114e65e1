#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/bindings.h"

namespace lsif::bindings {
namespace {

constexpr int32_t kNone = -1;

// Ids are looked up so many at a time: each has up to four places in memory to wait for, one after the other, and those
// of a chunk are asked for together.
constexpr int64_t kChunk = 64;

// Rows by hash: open addressing, at most half full. Whoever asks has to say whether a row found is that of the id.
class HashedRows {
 public:
  explicit HashedRows(int64_t size) {
    size_t num_slots = 2;
    while (num_slots < 2 * static_cast<size_t>(size)) num_slots *= 2;
    slots_.assign(num_slots, {0, kNone});
  }

  // False, and nothing is added, if there is a row of this hash for which is_same(row).
  template <typename IsSame>
  bool add(uint64_t hash, int32_t row, IsSame is_same) {
    size_t place = first(hash);
    for (; slots_[place].row != kNone; place = next(place)) {
      if (slots_[place].tag == tag_of(hash) && is_same(slots_[place].row)) return false;
    }
    slots_[place] = {tag_of(hash), row};
    return true;
  }

  void prefetch(uint64_t hash) const { __builtin_prefetch(&slots_[first(hash)]); }

  // The row of the first slot from `place` on that has the hash's tag, or kNone; `place` is then the slot to go on
  // from.
  int32_t candidate(uint64_t hash, size_t& place) const {
    for (;; place = next(place)) {
      const Slot& slot = slots_[place];
      if (slot.row == kNone) return kNone;
      if (slot.tag == tag_of(hash)) {
        place = next(place);
        return slot.row;
      }
    }
  }

  size_t first(uint64_t hash) const { return hash & (slots_.size() - 1); }

 private:
  struct Slot {
    uint32_t tag;
    int32_t row;
  };

  static uint32_t tag_of(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }
  size_t next(size_t place) const { return (place + 1) & (slots_.size() - 1); }

  std::vector<Slot> slots_;
};

// What IdRows asks of the ids of one kind. It holds their array, which is read where it is.
class Ids {
 public:
  virtual ~Ids() = default;
  // Rows of count <= kChunk ids, kNone where there is none. False: one is of another kind.
  virtual bool find(PyObject* const* ids, int64_t count, int64_t* rows) const = 0;
  // The first row whose id an earlier one has, too; kNone: there is none.
  int32_t repeat() const { return repeat_; }

 protected:
  void note_repeat(int64_t row) {
    if (repeat_ == kNone) repeat_ = static_cast<int32_t>(row);
  }

 private:
  int32_t repeat_ = kNone;
};

class TextIds : public Ids {
 public:
  explicit TextIds(const py::array& ids) : texts_(static_cast<PyObject* const*>(ids.data())), rows_(ids.size()) {
    for (int64_t row = 0; row < ids.size(); ++row) {
      if (!PyUnicode_CheckExact(texts_[row])) refuse("ids", "strings", text(py::type::handle_of(texts_[row])));
      const auto is_same = [&](int32_t other) { return are_same(texts_[row], texts_[other]); };
      if (!rows_.add(hash_of(texts_[row]), static_cast<int32_t>(row), is_same)) note_repeat(row);
    }
  }

  bool find(PyObject* const* ids, int64_t count, int64_t* rows) const override {
    uint64_t hashes[kChunk];
    size_t places[kChunk];
    for (int64_t i = 0; i < count; ++i) {
      if (!PyUnicode_CheckExact(ids[i])) return false;
      hashes[i] = hash_of(ids[i]);
      places[i] = rows_.first(hashes[i]);
      rows_.prefetch(hashes[i]);
    }
    for (int64_t i = 0; i < count; ++i) {
      rows[i] = rows_.candidate(hashes[i], places[i]);
      if (rows[i] != kNone) __builtin_prefetch(texts_ + rows[i]);
    }
    for (int64_t i = 0; i < count; ++i) {
      if (rows[i] != kNone) __builtin_prefetch(texts_[rows[i]]);
    }
    for (int64_t i = 0; i < count; ++i) {
      while (rows[i] != kNone && !are_same(ids[i], texts_[rows[i]])) rows[i] = rows_.candidate(hashes[i], places[i]);
    }
    return true;
  }

 private:
  // Python's own, which it keeps with the string; it never fails, and another process has other ones.
  static uint64_t hash_of(PyObject* string) { return static_cast<uint64_t>(PyObject_Hash(string)); }

  static bool are_same(PyObject* a, PyObject* b) {
    if (a == b) return true;
    if (!PyUnicode_CheckExact(b)) return false;  // somebody has written to the array since
    if (PyUnicode_GET_LENGTH(a) != PyUnicode_GET_LENGTH(b) || PyUnicode_KIND(a) != PyUnicode_KIND(b)) return false;
    const auto size = static_cast<size_t>(PyUnicode_GET_LENGTH(a)) * static_cast<size_t>(PyUnicode_KIND(a));
    return std::memcmp(PyUnicode_DATA(a), PyUnicode_DATA(b), size) == 0;
  }

  PyObject* const* texts_;
  HashedRows rows_;
};

// A number that fits int64; false where it does not, and no id of a catalogue is such a number.
bool number_of(PyObject* id, int64_t& number) {
  int overflow = 0;
  number = PyLong_AsLongLongAndOverflow(id, &overflow);
  return overflow == 0;
}

// Ids that lie close together: a table of all numbers from the first to the last.
class DenseIds : public Ids {
 public:
  static constexpr uint64_t kPlacesAnId = 4;

  DenseIds(const int64_t* ids, int64_t size, int64_t first, int64_t last)
      : first_(static_cast<uint64_t>(first)), rows_(static_cast<uint64_t>(last) - first_ + 1, kNone) {
    for (int64_t row = 0; row < size; ++row) {
      int32_t& place = rows_[place_of(ids[row])];
      if (place == kNone) {
        place = static_cast<int32_t>(row);
      } else {
        note_repeat(row);
      }
    }
  }

  bool find(PyObject* const* ids, int64_t count, int64_t* rows) const override {
    for (int64_t i = 0; i < count; ++i) {
      if (!PyLong_CheckExact(ids[i])) return false;
      int64_t number;
      const bool fits = number_of(ids[i], number);
      const uint64_t place = place_of(number);
      rows[i] = fits && place < rows_.size() ? rows_[place] : kNone;
    }
    return true;
  }

 private:
  // Modulo 2^64, so that what is below the first comes far behind the last.
  uint64_t place_of(int64_t number) const { return static_cast<uint64_t>(number) - first_; }

  uint64_t first_;
  std::vector<int32_t> rows_;
};

class SparseIds : public Ids {
 public:
  SparseIds(const int64_t* numbers, int64_t size) : numbers_(numbers), rows_(size) {
    for (int64_t row = 0; row < size; ++row) {
      const auto is_same = [&](int32_t other) { return numbers_[other] == numbers_[row]; };
      if (!rows_.add(hash_of(numbers_[row]), static_cast<int32_t>(row), is_same)) note_repeat(row);
    }
  }

  bool find(PyObject* const* ids, int64_t count, int64_t* rows) const override {
    int64_t numbers[kChunk];
    bool fits[kChunk];
    size_t places[kChunk];
    for (int64_t i = 0; i < count; ++i) {
      if (!PyLong_CheckExact(ids[i])) return false;
      fits[i] = number_of(ids[i], numbers[i]);
      places[i] = rows_.first(hash_of(numbers[i]));
      rows_.prefetch(hash_of(numbers[i]));
    }
    for (int64_t i = 0; i < count; ++i) {
      rows[i] = fits[i] ? rows_.candidate(hash_of(numbers[i]), places[i]) : kNone;
      if (rows[i] != kNone) __builtin_prefetch(numbers_ + rows[i]);
    }
    for (int64_t i = 0; i < count; ++i) {
      while (rows[i] != kNone && numbers_[rows[i]] != numbers[i]) {
        rows[i] = rows_.candidate(hash_of(numbers[i]), places[i]);
      }
    }
    return true;
  }

 private:
  // The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
  static uint64_t hash_of(int64_t number) {
    auto x = static_cast<uint64_t>(number);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }

  const int64_t* numbers_;
  HashedRows rows_;
};

std::unique_ptr<const Ids> ids_from(const py::array& ids) {
  const int64_t size = ids.size();
  if (ids.ndim() != 1) refuse("ids", "one dimension", std::to_string(ids.ndim()));
  if ((ids.flags() & py::array::c_style) == 0) refuse("ids", "a C-contiguous array", "one with gaps");
  if (size > std::numeric_limits<int32_t>::max()) refuse("ids", "fewer than 2^31", std::to_string(size));
  if (ids.dtype().kind() == 'O') return std::make_unique<TextIds>(ids);
  const auto* numbers = view<int64_t>("ids", ids, {size});
  if (size > 0) {
    const auto [first, last] = std::minmax_element(numbers, numbers + size);
    const uint64_t range = static_cast<uint64_t>(*last) - static_cast<uint64_t>(*first);
    if (range / DenseIds::kPlacesAnId < static_cast<uint64_t>(size)) {
      return std::make_unique<DenseIds>(numbers, size, *first, *last);
    }
  }
  return std::make_unique<SparseIds>(numbers, size);
}

// Catalogue rows by the application's ids. Immutable; holds the array of ids. The GIL keeps lists as they are
// meanwhile: nothing here runs Python code.
class IdRows {
 public:
  explicit IdRows(const py::array& ids) : array_(ids), ids_(ids_from(ids)) {}

  const py::array& array() const { return array_; }
  int32_t repeat() const { return ids_->repeat(); }

  py::object find(const py::list& ids) const {
    Array<int64_t> rows(static_cast<int64_t>(ids.size()));
    if (!write(ids.ptr(), rows.mutable_data())) return py::none();
    return rows;
  }

  py::object find_lists(const py::list& lists) const {
    PyObject* const given = lists.ptr();
    const bool is_one = lists.empty() || !PyList_CheckExact(PyList_GET_ITEM(given, 0));
    const int64_t batch = is_one ? 1 : PyList_GET_SIZE(given);
    Array<int64_t> offsets(batch + 1);
    int64_t* ends = offsets.mutable_data();
    ends[0] = 0;
    for (int64_t b = 0; b < batch; ++b) {
      PyObject* const ids = is_one ? given : PyList_GET_ITEM(given, b);
      if (!PyList_CheckExact(ids)) return py::none();
      ends[b + 1] = ends[b] + PyList_GET_SIZE(ids);
    }
    Array<int64_t> rows(ends[batch]);
    for (int64_t b = 0; b < batch; ++b) {
      PyObject* const ids = is_one ? given : PyList_GET_ITEM(given, b);
      if (PyList_GET_SIZE(ids) != ends[b + 1] - ends[b]) return py::none();
      if (!write(ids, rows.mutable_data() + ends[b])) return py::none();
    }
    return py::make_tuple(rows, offsets);
  }

 private:
  bool write(PyObject* list, int64_t* rows) const {
    PyObject* const* ids = PySequence_Fast_ITEMS(list);
    const int64_t size = PyList_GET_SIZE(list);
    for (int64_t begin = 0; begin < size; begin += kChunk) {
      if (!ids_->find(ids + begin, std::min(kChunk, size - begin), rows + begin)) return false;
    }
    return true;
  }

  py::array array_;
  std::unique_ptr<const Ids> ids_;
};

}  // namespace

void bind_id_rows(py::module_& m) {
  py::class_<IdRows>(m, "IdRows",
                     "Catalogue rows by the application's ids: int64 [num_items], or objects, all strings.")
      .def(py::init<const py::array&>(), py::arg("ids"))
      .def_property_readonly("repeat", &IdRows::repeat,
                             "The first row whose id an earlier row has, too; -1: there is none.")
      .def("find", &IdRows::find, py::arg("ids"),
           "Rows int64 [num_ids], -1 where there is none; None if an id is not of exactly the catalogue's type.")
      .def("find_lists", &IdRows::find_lists, py::arg("lists"),
           "`find` of one list of ids or a list of such lists: (rows int64 [total], offsets int64 [batch + 1]), or "
           "None.")
      .def("__reduce__",
           [](const IdRows& self) { return py::make_tuple(py::type::of<IdRows>(), py::make_tuple(self.array())); });
}

}  // namespace lsif::bindings
