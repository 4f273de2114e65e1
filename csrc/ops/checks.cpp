#include "ops/checks.h"

#include <stdexcept>

namespace lsif::ops {
namespace {

[[noreturn]] void fail(const char* argument, const std::string& expected, const std::string& got) {
  throw std::invalid_argument(std::string(argument) + ": expected " + expected + ", got " + got);
}

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

std::string shape_text(const Tensor& t) { return shape_text(t.sizes().data(), t.dim()); }

}  // namespace

void check_tensor(const char* argument, const Tensor& t, ScalarType dtype, const std::vector<int64_t>& shape) {
  if (!t.is_cpu()) fail(argument, "a CPU tensor", "a tensor on another device");
  if (t.scalar_type() != dtype) fail(argument, "dtype " + dtype_name(dtype), dtype_name(t.scalar_type()));
  bool same = t.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; same && i < shape.size(); ++i)
    same = shape[i] == kAny || shape[i] == t.size(static_cast<int64_t>(i));
  if (!same) fail(argument, "shape " + shape_text(shape.data(), static_cast<int64_t>(shape.size())), shape_text(t));
  if (!t.is_contiguous()) fail(argument, "a contiguous tensor", "one with other strides");
}

const float* floats(const char* argument, const Tensor& t, const std::vector<int64_t>& shape) {
  check_tensor(argument, t, ScalarType::Float, shape);
  return static_cast<const float*>(t.const_data_ptr());
}

const int64_t* ints(const char* argument, const Tensor& t, const std::vector<int64_t>& shape) {
  check_tensor(argument, t, ScalarType::Long, shape);
  return static_cast<const int64_t*>(t.const_data_ptr());
}

// An empty tensor may have no memory, but it is not None.
const float* floats(const char* argument, const std::optional<Tensor>& t, const std::vector<int64_t>& shape) {
  static constexpr float kEmpty = 0;
  if (!t.has_value()) return nullptr;
  const float* values = floats(argument, *t, shape);
  return values != nullptr ? values : &kEmpty;
}

const int64_t* ints(const char* argument, const std::optional<Tensor>& t, const std::vector<int64_t>& shape) {
  static constexpr int64_t kEmpty = 0;
  if (!t.has_value()) return nullptr;
  const int64_t* values = ints(argument, *t, shape);
  return values != nullptr ? values : &kEmpty;
}

int64_t size_of(const char* argument, const Tensor& t, int64_t num_dims, int64_t dim) {
  if (t.dim() != num_dims) fail(argument, std::to_string(num_dims) + " dimensions", shape_text(t));
  return t.size(dim);
}

int64_t check_offsets(const char* argument, const Tensor& offsets, int64_t total) {
  const int64_t batch = size_of(argument, offsets, 1, 0) - 1;
  if (batch < 0) fail(argument, "at least one value", "none");
  const int64_t* values = ints(argument, offsets, {kAny});
  if (values[0] != 0) fail(argument, "a first value of 0", std::to_string(values[0]));
  for (int64_t b = 0; b < batch; ++b) {
    if (values[b + 1] < values[b])
      fail(argument, "non-decreasing values", "a decrease at position " + std::to_string(b + 1));
  }
  if (values[batch] != total) fail(argument, "a last value of " + std::to_string(total), std::to_string(values[batch]));
  return batch;
}

void check_range(const char* argument, const int64_t* values, int64_t count, int64_t begin, int64_t end) {
  for (int64_t i = 0; i < count; ++i) {
    if (values[i] < begin || values[i] >= end) {
      fail(argument, "values in [" + std::to_string(begin) + ", " + std::to_string(end - 1) + "]",
           std::to_string(values[i]) + " at position " + std::to_string(i));
    }
  }
}

Tensor new_floats(const Tensor& like, const std::vector<int64_t>& shape) {
  return torch::stable::new_empty(like, {shape.data(), shape.size()}, ScalarType::Float);
}

Tensor new_ints(const Tensor& like, const std::vector<int64_t>& shape) {
  return torch::stable::new_empty(like, {shape.data(), shape.size()}, ScalarType::Long);
}

}  // namespace lsif::ops
