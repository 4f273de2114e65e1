// NumPy arrays that Python hands in: checked and read where they are.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "engine/refuse.h"
#include "engine/scratch.h"

namespace lsif::bindings {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

inline std::string text(const py::handle& object) { return py::str(object); }

using engine::refuse;

// A view of the array's memory, which is read where it is: an array of another dtype or layout is a mistake, not
// something to convert on the hot path.
template <typename T>
const T* view(const char* argument, const py::array& array, std::span<const int64_t> shape) {
  if (!py::isinstance<py::array_t<T, 0>>(array)) {
    refuse(argument, "dtype " + text(py::dtype::of<T>()), text(array.dtype()));
  }
  if (!std::equal(array.shape(), array.shape() + array.ndim(), shape.begin(), shape.end())) {
    const std::vector<int64_t> expected(shape.begin(), shape.end());
    const std::vector<int64_t> got(array.shape(), array.shape() + array.ndim());
    refuse(argument, "shape " + text(py::cast(expected)), text(py::cast(got)));
  }
  if ((array.flags() & py::array::c_style) == 0) {
    const std::vector<int64_t> strides(array.strides(), array.strides() + array.ndim());
    refuse(argument, "a C-contiguous array", "one with strides " + text(py::cast(strides)) + " (bytes)");
  }
  return static_cast<const T*>(array.data());
}

template <typename T>
const T* view(const char* argument, const py::array& array, std::initializer_list<int64_t> shape) {
  return view<T>(argument, array, std::span<const int64_t>(shape.begin(), shape.size()));
}

inline py::array array_from(const char* argument, const py::object& object) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  throw py::type_error(std::string(argument) + ": expected a NumPy array, got " +
                       text(py::type::handle_of(object).attr("__name__")));
}

// A copy, for values the engine checks and then reads once more without the GIL: between the two other threads must not
// be able to write to them.
template <typename T>
T* copy(const char* argument, const py::array& array, std::initializer_list<int64_t> shape, engine::Scratch& scratch) {
  const T* values = view<T>(argument, array, shape);
  T* copied = scratch.array<T>(array.size());
  std::copy_n(values, array.size(), copied);
  return copied;
}

inline const int64_t* view_or_null(const char* argument, const py::object& array, int64_t size) {
  return array.is_none() ? nullptr : view<int64_t>(argument, array_from(argument, array), {size});
}

// Likewise, for values that serve as indices.
inline int64_t* copy_or_null(const char* argument, const py::object& array, int64_t size, engine::Scratch& scratch) {
  return array.is_none() ? nullptr : copy<int64_t>(argument, array_from(argument, array), {size}, scratch);
}

}  // namespace lsif::bindings
