// What the CUDA ops need besides checks.h: arguments on the device and the stream to work in.
#pragma once

#include <cuda_runtime_api.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

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

// lsif::ops::floats and ints for tensors on the device of `first`.
class DeviceArguments {
 public:
  explicit DeviceArguments(const Tensor& first) : place_{true, first.get_device_index()} {}

  Place place() const { return place_; }

  template <typename MaybeTensor>
  const float* floats(const char* argument, const MaybeTensor& t, const std::vector<int64_t>& shape) const {
    return ops::floats(argument, t, shape, place_);
  }

  template <typename MaybeTensor>
  const int64_t* ints(const char* argument, const MaybeTensor& t, const std::vector<int64_t>& shape) const {
    return ops::ints(argument, t, shape, place_);
  }

 private:
  Place place_;
};

inline float* output(Tensor& t) { return static_cast<float*>(t.mutable_data_ptr()); }

}  // namespace lsif::ops
