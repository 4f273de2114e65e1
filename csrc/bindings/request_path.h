#pragma once

#include <pybind11/pybind11.h>

#include "engine/model.h"

namespace lsif::bindings {

// Adds the class RequestPath to the module.
void bind_request_path(pybind11::module_& m, engine::ModelConfig (*config_from)(const pybind11::dict&));

}  // namespace lsif::bindings
