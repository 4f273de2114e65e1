// What the CUDA ops need besides checks.h: arguments on the device and the stream to work in.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "ops/checks.h"
#include "ops/cuda_device.h"

namespace lsif::ops {

inline void check_launch(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

// lsif::ops::floats and ints for tensors on the device of `first`.
class DeviceArguments {
 public:
  explicit DeviceArguments(const Tensor& first) : place_(device_of(first)) {}

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

}  // namespace lsif::ops
