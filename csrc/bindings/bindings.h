// What each file adds to the module.
#pragma once

#include <pybind11/pybind11.h>

#include "engine/model.h"

namespace lsif::bindings {

void bind_catalog_path(pybind11::module_& m);
void bind_id_rows(pybind11::module_& m);
void bind_ragged_union(pybind11::module_& m);
void bind_request_path(pybind11::module_& m, engine::ModelConfig (*config_from)(const pybind11::dict&));

}  // namespace lsif::bindings
