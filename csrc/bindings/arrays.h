// NumPy arrays that Python hands in: checked and read where they are.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "engine/refuse.h"

namespace lsif::bindings {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

inline std::string text(const py::handle& object) { return py::str(object); }

using engine::refuse;

// A view of the array's memory, which is read where it is: an array of another dtype or layout is a mistake, not
// something to convert on the hot path.
template <typename T>
const T* view(const std::string& argument, const py::array& array, const std::vector<int64_t>& shape) {
  if (!py::isinstance<py::array_t<T, 0>>(array)) {
    refuse(argument, "dtype " + text(py::dtype::of<T>()), text(array.dtype()));
  }
  const std::vector<int64_t> got(array.shape(), array.shape() + array.ndim());
  if (got != shape) refuse(argument, "shape " + text(py::cast(shape)), text(py::cast(got)));
  if ((array.flags() & py::array::c_style) == 0) {
    const std::vector<int64_t> strides(array.strides(), array.strides() + array.ndim());
    refuse(argument, "a C-contiguous array", "one with strides " + text(py::cast(strides)) + " (bytes)");
  }
  return static_cast<const T*>(array.data());
}

inline py::array array_from(const char* argument, const py::object& object) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  throw py::type_error(std::string(argument) + ": expected a NumPy array, got " +
                       text(py::type::handle_of(object).attr("__name__")));
}

inline const int64_t* view_or_null(const char* argument, const py::object& array, const std::vector<int64_t>& shape) {
  return array.is_none() ? nullptr : view<int64_t>(argument, array_from(argument, array), shape);
}

// A copy, for values that serve as indices: once they are checked, other threads must not be able to write to them.
inline std::vector<int64_t> copy_or_empty(const char* argument, const py::object& array,
                                          const std::vector<int64_t>& shape) {
  const int64_t* values = view_or_null(argument, array, shape);
  return values == nullptr ? std::vector<int64_t>() : std::vector<int64_t>(values, values + shape[0]);
}

template <typename T>
Array<T> array_of(const std::vector<T>& values) {
  return Array<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

}  // namespace lsif::bindings
