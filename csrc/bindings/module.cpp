// lsif_sdk._core: what is stateful or must be one native call. Torch-free: tensors arrive as NumPy views of their
// memory.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <type_traits>

#include "bindings/bindings.h"
#include "engine/model_config.h"
#include "engine/thread_pool.h"
#include "kernels/cpu/dispatch.h"

namespace py = pybind11;

namespace lsif::bindings {
namespace {

// fields: ModelConfig.to_dict() of python/lsif_sdk/config.py.
engine::ModelConfig config_from(const py::dict& fields) {
  engine::ModelConfig c;
  engine::for_fields(c, [&](const char* name, auto& field, int64_t, int64_t) {
    using Field = std::remove_reference_t<decltype(field)>;
    if constexpr (std::is_same_v<Field, engine::Block>) {
      field = engine::block_from(fields[name].cast<std::string>());
    } else if constexpr (std::is_same_v<Field, Activation>) {
      field = engine::activation_from(fields[name].cast<std::string>());
    } else {
      field = fields[name].cast<Field>();
    }
  });
  c.norm_eps = fields["norm_eps"].cast<float>();
  return c;
}

py::list specs_to_python(const py::dict& fields) {
  py::list specs;
  for (const engine::WeightSpec& spec : engine::weight_specs(config_from(fields))) {
    specs.append(py::make_tuple(spec.name, py::tuple(py::cast(spec.shape)), spec.is_int64 ? "int64" : "float32"));
  }
  return specs;
}

py::dict build_info() {
  py::dict info;
  info["version"] = LSIF_VERSION;
  info["compiler"] = LSIF_COMPILER;
  info["build_type"] = LSIF_BUILD_TYPE;
  info["built_with_torch"] = LSIF_TORCH_VERSION;
#if defined(LSIF_CUDA_VERSION)
  info["built_for_cuda"] = LSIF_CUDA_VERSION;
#else
  info["built_for_cuda"] = "";
#endif
  py::list compiled;
#define LSIF_APPEND(name) compiled.append(#name);
  LSIF_ISAS(LSIF_APPEND)
#undef LSIF_APPEND
  info["compiled_isas"] = compiled;
  py::list runnable;
  for (const cpu::KernelTable* table : cpu::runnable_kernels()) runnable.append(table->isa);
  info["runnable_isas"] = runnable;
  info["isa"] = cpu::kernels().isa;
  info["isa_reason"] = cpu::kernels_reason();
  info["default_threads"] = engine::default_threads();
  return info;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "Native request path of lsif_sdk.";
  m.def("build_info", &build_info, "How this build was made, which kernels it runs and why.");
  m.def("weight_specs", &specs_to_python, py::arg("config"),
        "(name, shape, dtype) of every tensor a model of this config needs.");
  m.def(
      "config_ints", [](const py::dict& fields) { return config_from(fields).to_ints(); }, py::arg("config"),
      "A config as the integers torch.ops.lsif.encode takes.");
  m.def("default_threads", &engine::default_threads, "CPUs this process may use, container limits included.");
  bind_request_path(m, &config_from);
  bind_catalog_path(m);
  bind_id_rows(m);
  bind_ragged_union(m);
}

}  // namespace lsif::bindings
