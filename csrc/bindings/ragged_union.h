#pragma once

#include <pybind11/pybind11.h>

namespace lsif::bindings {

// Adds the function ragged_union to the module.
void bind_ragged_union(pybind11::module_& m);

}  // namespace lsif::bindings
