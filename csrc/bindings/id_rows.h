#pragma once

#include <pybind11/pybind11.h>

namespace lsif::bindings {

// Adds the class IdRows to the module.
void bind_id_rows(pybind11::module_& m);

}  // namespace lsif::bindings
