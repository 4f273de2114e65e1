// Memory of the GPU, or of the emulation (tests/cuda_emulation/), for tests that have their data on the host.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace device {

// Nothing that is left of the test would mean anything.
inline void expect_success(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("CUDA: %s\n", cudaGetErrorString(error));
  std::exit(1);
}

// A copy of n values on the device; null where the values are.
template <typename T>
class Array {
 public:
  Array(const T* host, int64_t n) : size_(static_cast<size_t>(n) * sizeof(T)) {
    if (host == nullptr) return;
    allocate();
    if (size_ > 0) expect_success(cudaMemcpy(data_, host, size_, cudaMemcpyHostToDevice));
  }
  // Not initialised.
  explicit Array(int64_t n) : size_(static_cast<size_t>(n) * sizeof(T)) { allocate(); }
  ~Array() { expect_success(cudaFree(data_)); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() const { return static_cast<T*>(data_); }

  // Waits for what the device has been told to do.
  void copy_to(T* host) const {
    if (size_ > 0) expect_success(cudaMemcpy(host, data_, size_, cudaMemcpyDeviceToHost));
  }

 private:
  void allocate() { expect_success(cudaMalloc(&data_, size_)); }

  size_t size_;
  void* data_ = nullptr;
};

}  // namespace device
