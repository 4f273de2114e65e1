// Where CUDA ops work. Tests put another file in the place of this one (tests/emulated_ops/).
#pragma once

#include <cuda_runtime_api.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <stdexcept>
#include <string>

#include "ops/checks.h"

namespace lsif::ops {

// While this lives the device of t is the current one; `stream` is torch's current stream of it.
class OnDevice {
 public:
  explicit OnDevice(const Tensor& t) : guard_(t.get_device_index()) {
    void* current = nullptr;
    // Torch's own macro for this check has another name in every second release.
    if (aoti_torch_get_current_cuda_stream(t.get_device_index(), &current) != AOTI_TORCH_SUCCESS) {
      throw std::runtime_error("torch has no current stream on CUDA device " + std::to_string(t.get_device_index()));
    }
    stream = static_cast<cudaStream_t>(current);
  }

  cudaStream_t stream;

 private:
  torch::stable::accelerator::DeviceGuard guard_;
};

// Where the arguments of an op have to be that gets t first.
inline Place device_of(const Tensor& t) { return {true, t.get_device_index()}; }

}  // namespace lsif::ops
