// lsif_sdk._core: what is stateful or must be one native call. Torch-free: tensors arrive as NumPy views of their
// memory.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "engine/model.h"
#include "engine/refuse.h"
#include "engine/thread_pool.h"
#include "kernels/cpu/dispatch.h"

namespace py = pybind11;

namespace lsif::bindings {
namespace {

engine::Block block_from(const std::string& name) {
  if (name == "hstu") return engine::Block::kHstu;
  if (name == "transformer") return engine::Block::kTransformer;
  engine::refuse("block", "'hstu' or 'transformer'", "'" + name + "'");
}

Activation activation_from(const std::string& name) {
  if (name == "relu") return Activation::kRelu;
  if (name == "gelu") return Activation::kGelu;
  if (name == "silu") return Activation::kSilu;
  engine::refuse("activation", "'relu', 'gelu' or 'silu'", "'" + name + "'");
}

// fields: ModelConfig.to_dict() of python/lsif_sdk/config.py.
engine::ModelConfig config_from(const py::dict& fields) {
  const auto integer = [&](const char* name) { return fields[name].cast<int64_t>(); };
  engine::ModelConfig c;
  c.num_items = integer("num_items");
  c.dim = integer("dim");
  c.num_layers = integer("num_layers");
  c.num_heads = integer("num_heads");
  c.block = block_from(fields["block"].cast<std::string>());
  c.activation = activation_from(fields["activation"].cast<std::string>());
  c.ffn_dim = integer("ffn_dim");
  c.window = integer("window");
  c.num_long = integer("num_long");
  c.num_short = integer("num_short");
  c.short_window = integer("short_window");
  c.pooling_dim = integer("pooling_dim");
  c.fusion_dim = integer("fusion_dim");
  c.use_times = fields["use_times"].cast<bool>();
  c.request_time = fields["request_time"].cast<bool>();
  c.num_time_boundaries = integer("num_time_boundaries");
  c.num_actions = integer("num_actions");
  c.repeats = fields["repeats"].cast<bool>();
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
