#pragma once

#include <pybind11/pybind11.h>

namespace lsif::bindings {

// Adds `RowVersion`: what a matrix of a live catalogue becomes by a change (engine/versioned_memory.h).
void bind_row_version(pybind11::module_& m);

}  // namespace lsif::bindings
