#pragma once

#include <pybind11/pybind11.h>

namespace lsif::bindings {

// Adds the class CatalogPath to the module.
void bind_catalog_path(pybind11::module_& m);

}  // namespace lsif::bindings
