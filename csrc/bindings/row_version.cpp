#include "bindings/row_version.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "engine/versioned_memory.h"

namespace lsif::bindings {
namespace {

// A matrix, or a vector, of float32 that another one became.
class RowVersion {
 public:
  RowVersion(const py::array& old, const RowVersion* before, int64_t num_added, const py::array& rows,
             const py::array& values)
      : shape_(old.shape(), old.shape() + old.ndim()) {
    const auto* old_values = view<float>("old", old, shape_);
    if (shape_.empty() || num_added < 0) refuse("old", "rows, and none or further ones", std::to_string(num_added));
    shape_[0] += num_added;
    const auto* places = view<int64_t>("rows", rows, {rows.size()});
    std::vector<int64_t> wanted = shape_;
    wanted[0] = rows.size();
    const auto* new_values = view<float>("values", values, wanted);
    if (before != nullptr && before->memory_->data() != reinterpret_cast<const std::byte*>(old_values)) {
      refuse("before", "the version that `old` is", "another");
    }
    for (int64_t i = 0; i < rows.size(); ++i) {
      if (places[i] < 0 || places[i] >= shape_[0]) {
        refuse("rows", "rows in [0, " + std::to_string(shape_[0]) + ")", std::to_string(places[i]));
      }
    }
    const int64_t row_size = shape_.size() < 2 ? 4 : 4 * shape_[1];
    const py::gil_scoped_release unlocked;
    std::vector<engine::VersionedMemory::Range> changing;
    for (int64_t i = 0; i < wanted[0]; ++i) changing.push_back({places[i] * row_size, (places[i] + 1) * row_size});
    memory_ = std::make_unique<engine::VersionedMemory>(
        old_values, (shape_[0] - num_added) * row_size, before == nullptr ? nullptr : before->memory_.get(),
        shape_[0] * row_size, changing);
    for (int64_t i = 0; i < wanted[0]; ++i) {
      std::memcpy(memory_->data() + places[i] * row_size, reinterpret_cast<const std::byte*>(new_values) + i * row_size,
                  static_cast<size_t>(row_size));
    }
  }

  // A view, of which `self`, this object, is the owner.
  static py::array array(const py::object& self) {
    const auto& version = self.cast<const RowVersion&>();
    return Array<float>(version.shape_, reinterpret_cast<const float*>(version.memory_->data()), self);
  }

  double shared() const {
    return memory_->is_mapped() ? static_cast<double>(memory_->num_shared()) / static_cast<double>(memory_->num_pieces())
                                : 0.0;
  }

 private:
  std::vector<int64_t> shape_;
  std::unique_ptr<engine::VersionedMemory> memory_;
};

}  // namespace

void bind_row_version(py::module_& m) {
  py::class_<RowVersion>(m, "RowVersion", "float32 rows that share memory with those they were made of.")
      .def(py::init<const py::array&, const RowVersion*, int64_t, const py::array&, const py::array&>(), py::arg("old"),
           py::arg("before"), py::arg("num_added"), py::arg("rows"), py::arg("values"))
      .def("array", [](const py::object& self) { return RowVersion::array(self); }, "The rows, where they lie.")
      .def("shared", &RowVersion::shared, "The part of the memory that is that of `before`, 0 to 1.");
}

}  // namespace lsif::bindings
