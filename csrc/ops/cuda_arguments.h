// What the CUDA ops need besides checks.h: arguments on the device, host copies to check, the stream to work in.
#pragma once

#include <cuda_runtime_api.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "ops/checks.h"

namespace lsif::ops {

// While this lives the device of t is the current one; `stream` is torch's current stream of it.
class OnDevice {
 public:
  explicit OnDevice(const Tensor& t) : guard_(t.get_device_index()) {
    void* current = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &current));
    stream = static_cast<cudaStream_t>(current);
  }

  cudaStream_t stream;

 private:
  torch::stable::accelerator::DeviceGuard guard_;
};

inline void check_launch(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

// A copy of which the CPU's checks can read the values. Waits for the stream.
inline Tensor on_host(const Tensor& t) {
  return torch::stable::to(t, torch::stable::Device(torch::headeronly::DeviceType::CPU));
}

inline void check_rows(const char* argument, const Tensor& rows, int64_t end) {
  const Tensor host = on_host(rows);
  check_range(argument, static_cast<const int64_t*>(host.const_data_ptr()), host.numel(), 0, end);
}

// As lsif::ops::floats and ints, for tensors on the device of `first`.
class DeviceArguments {
 public:
  explicit DeviceArguments(const Tensor& first) : device_(first.get_device_index()) {}

  const float* floats(const char* argument, const Tensor& t, const std::vector<int64_t>& shape) const {
    check(argument, t, ScalarType::Float, "float32", shape);
    return static_cast<const float*>(t.const_data_ptr());
  }

  const int64_t* ints(const char* argument, const Tensor& t, const std::vector<int64_t>& shape) const {
    check(argument, t, ScalarType::Long, "int64", shape);
    return static_cast<const int64_t*>(t.const_data_ptr());
  }

  // Null where the argument is None.
  const float* floats(const char* argument, const std::optional<Tensor>& t, const std::vector<int64_t>& shape) const {
    return t ? floats(argument, *t, shape) : nullptr;
  }

  const int64_t* ints(const char* argument, const std::optional<Tensor>& t, const std::vector<int64_t>& shape) const {
    return t ? ints(argument, *t, shape) : nullptr;
  }

 private:
  void check(const char* argument, const Tensor& t, ScalarType dtype, const char* dtype_name,
             const std::vector<int64_t>& shape) const {
    const auto fail = [&](const std::string& expected, const std::string& got) {
      throw std::invalid_argument(std::string(argument) + ": expected " + expected + ", got " + got);
    };
    if (!t.is_cuda() || t.get_device_index() != device_) {
      fail("a tensor on cuda:" + std::to_string(device_),
           t.is_cuda() ? "one on cuda:" + std::to_string(t.get_device_index()) : "one on another kind of device");
    }
    if (t.scalar_type() != dtype) fail(std::string("dtype ") + dtype_name, "another dtype");
    std::vector<int64_t> got;
    for (int64_t i = 0; i < t.dim(); ++i) got.push_back(t.size(i));
    if (got != shape) fail("shape " + shape_text(shape), shape_text(got));
    if (!t.is_contiguous()) fail("a contiguous tensor", "one with other strides");
  }

  static std::string shape_text(const std::vector<int64_t>& shape) {
    std::string text;
    for (const int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
    return "[" + text + "]";
  }

  int32_t device_;
};

inline float* output(Tensor& t) { return static_cast<float*>(t.mutable_data_ptr()); }

}  // namespace lsif::ops
