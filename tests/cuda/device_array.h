// Memory of the GPU, or of the emulation (tests/cuda_emulation/), for tests that have their data on the host.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

namespace device {

// Nothing that is left of the test would mean anything.
inline void expect_success(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("CUDA: %s\n", cudaGetErrorString(error));
  std::exit(1);
}

// Memory of a GPU is kept for the next array of as many bytes: cudaFree() waits for the device, tens of thousands of
// times in some tests. Of as many exactly, so that memcheck notices a step past the end. The emulation's is checked
// and forgotten each time.
class Memory {
 public:
  static void* take(size_t size) {
    std::vector<void*>& kept = of_size(size);
    void* data = nullptr;
    if (kept.empty()) {
      expect_success(cudaMalloc(&data, size));
    } else {
      data = kept.back();
      kept.pop_back();
    }
    return data;
  }

  static void give_back(void* data, [[maybe_unused]] size_t size) {
#if defined(LSIF_CUDA_EMULATED)
    expect_success(cudaFree(data));
#else
    if (data != nullptr) of_size(size).push_back(data);
#endif
  }

 private:
  static std::vector<void*>& of_size(size_t size) {
    static std::map<size_t, std::vector<void*>> kept;
    return kept[size];
  }
};

// A copy of n values on the device; null where the values are.
template <typename T>
class Array {
 public:
  Array(const T* host, int64_t n) : size_(static_cast<size_t>(n) * sizeof(T)) {
    if (host == nullptr) return;
    allocate();
    if (size_ > 0) expect_success(cudaMemcpy(data_, host, size_, cudaMemcpyHostToDevice));
  }
  // Not initialised: all ones (NaN), since memory that is kept has what a kernel wrote there before.
  explicit Array(int64_t n) : size_(static_cast<size_t>(n) * sizeof(T)) {
    allocate();
#if !defined(LSIF_CUDA_EMULATED)  // whose memory begins so
    if (size_ > 0) expect_success(cudaMemset(data_, 0xff, size_));
#endif
  }
  ~Array() { Memory::give_back(data_, size_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() const { return static_cast<T*>(data_); }

  // Waits for what the device has been told to do.
  void copy_to(T* host) const {
    if (size_ > 0) expect_success(cudaMemcpy(host, data_, size_, cudaMemcpyDeviceToHost));
  }

 private:
  void allocate() { data_ = Memory::take(size_); }

  size_t size_;
  void* data_ = nullptr;
};

}  // namespace device
