#include "ops/checks.h"

#include "engine/ragged.h"
#include "engine/refuse.h"

namespace lsif::ops {
namespace {

using engine::refuse;

std::string dtype_name(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Char:
      return "int8";
    default:
      return "dtype " + std::to_string(static_cast<int>(dtype));
  }
}

std::string shape_text(const int64_t* sizes, int64_t num_dims) {
  std::string text = "[";
  for (int64_t i = 0; i < num_dims; ++i) {
    text += (i ? ", " : "") + (sizes[i] == kAny ? std::string("any") : std::to_string(sizes[i]));
  }
  return text + "]";
}

std::string name_of(Place place) { return place.is_cuda ? "cuda:" + std::to_string(place.index) : "the CPU"; }

std::string place_of(const Tensor& t) {
  if (t.is_cpu()) return name_of({});
  return t.is_cuda() ? name_of({true, t.get_device_index()}) : "another kind of device";
}

bool is_in(const Tensor& t, Place place) {
  return place.is_cuda ? t.is_cuda() && t.get_device_index() == place.index : t.is_cpu();
}

}  // namespace

std::string shape_text(const Tensor& t) { return shape_text(t.sizes().data(), t.dim()); }

void check_tensor(const char* argument, const Tensor& t, ScalarType dtype, const std::vector<int64_t>& shape,
                  Place place) {
  if (!is_in(t, place)) refuse(argument, "a tensor on " + name_of(place), "one on " + place_of(t));
  if (t.scalar_type() != dtype) refuse(argument, "dtype " + dtype_name(dtype), dtype_name(t.scalar_type()));
  bool same = t.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; same && i < shape.size(); ++i)
    same = shape[i] == kAny || shape[i] == t.size(static_cast<int64_t>(i));
  if (!same) refuse(argument, "shape " + shape_text(shape.data(), static_cast<int64_t>(shape.size())), shape_text(t));
  if (!t.is_contiguous()) refuse(argument, "a contiguous tensor", "one with other strides");
}

const float* floats(const char* argument, const Tensor& t, const std::vector<int64_t>& shape, Place place) {
  check_tensor(argument, t, ScalarType::Float, shape, place);
  return static_cast<const float*>(t.const_data_ptr());
}

const int64_t* ints(const char* argument, const Tensor& t, const std::vector<int64_t>& shape, Place place) {
  check_tensor(argument, t, ScalarType::Long, shape, place);
  return static_cast<const int64_t*>(t.const_data_ptr());
}

// An empty tensor may have no memory, but it is not None. Nothing is read from it.
const float* floats(const char* argument, const std::optional<Tensor>& t, const std::vector<int64_t>& shape,
                    Place place) {
  static constexpr float kEmpty = 0;
  if (!t.has_value()) return nullptr;
  const float* values = floats(argument, *t, shape, place);
  return values != nullptr ? values : &kEmpty;
}

const int64_t* ints(const char* argument, const std::optional<Tensor>& t, const std::vector<int64_t>& shape,
                    Place place) {
  static constexpr int64_t kEmpty = 0;
  if (!t.has_value()) return nullptr;
  const int64_t* values = ints(argument, *t, shape, place);
  return values != nullptr ? values : &kEmpty;
}

int64_t size_of(const char* argument, const Tensor& t, int64_t num_dims, int64_t dim) {
  if (t.dim() != num_dims) refuse(argument, std::to_string(num_dims) + " dimensions", shape_text(t));
  return t.size(dim);
}

Tensor on_host(const Tensor& t) {
  return t.is_cpu() ? t : torch::stable::to(t, torch::stable::Device(torch::headeronly::DeviceType::CPU));
}

int64_t check_offsets(const char* argument, const Tensor& offsets, int64_t total) {
  const int64_t batch = size_of(argument, offsets, 1, 0) - 1;
  if (batch < 0) refuse(argument, "at least one value", "none");
  const Tensor host = on_host(offsets);
  engine::check_offsets(argument, ints(argument, host, {batch + 1}), batch, total);
  return batch;
}

std::vector<int64_t> equal_offsets(int64_t batch, int64_t count) {
  std::vector<int64_t> offsets;
  for (int64_t b = 0; b <= batch; ++b) offsets.push_back(b * count);
  return offsets;
}

void check_rows(const char* argument, const Tensor& t, int64_t end) {
  const Tensor host = on_host(t);
  engine::check_rows(argument, static_cast<const int64_t*>(host.const_data_ptr()), host.numel(), end);
}

void check_both_or_none(const char* argument, const std::optional<Tensor>& t, const char* other_argument,
                        const std::optional<Tensor>& other) {
  if (t.has_value() == other.has_value()) return;
  refuse(argument, std::string("with ") + other_argument + " and only then", "one without the other");
}

std::vector<const void*> weight_data(const engine::ModelConfig& config, const std::vector<Tensor>& weights,
                                     Place place) {
  const std::vector<engine::WeightSpec> specs = engine::weight_specs(config);
  if (weights.size() != specs.size()) {
    refuse("weights", std::to_string(specs.size()) + " tensors", std::to_string(weights.size()));
  }
  std::vector<const void*> data;
  for (size_t i = 0; i < specs.size(); ++i) {
    const ScalarType dtype = specs[i].is_int64 ? ScalarType::Long : ScalarType::Float;
    check_tensor(specs[i].name.c_str(), weights[i], dtype, specs[i].shape, place);
    data.push_back(weights[i].const_data_ptr());
  }
  return data;
}

Tensor new_floats(const Tensor& like, const std::vector<int64_t>& shape) {
  return torch::stable::new_empty(like, {shape.data(), shape.size()}, ScalarType::Float);
}

Tensor new_ints(const Tensor& like, const std::vector<int64_t>& shape) {
  return torch::stable::new_empty(like, {shape.data(), shape.size()}, ScalarType::Long);
}

}  // namespace lsif::ops
