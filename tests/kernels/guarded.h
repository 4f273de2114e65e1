// Memory that detects invalid accesses by a kernel. Arrays end at an unreadable page, so that accesses past the end
// stop the program (also those of masked vector instructions, which AddressSanitizer does not see). The bytes before
// arrays and between the rows of a matrix are filled with a canary that is NaN as a float.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <new>
#include <utility>

namespace guarded {

inline constexpr unsigned char kCanary = 0xFF;  // four of them form a NaN

// n values of T at a fixed address, so that pointers stay valid. All bytes start as canaries.
template <typename T>
class Array {
 public:
  explicit Array(int64_t n) : size_(n) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    mapped_ = (bytes + kFront + page - 1) / page * page;
    void* memory =
        mmap(nullptr, static_cast<size_t>(mapped_ + page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<unsigned char*>(memory);
    std::memset(base_, kCanary, static_cast<size_t>(mapped_));
    mprotect(base_ + mapped_, static_cast<size_t>(page), PROT_NONE);
    data_ = reinterpret_cast<T*>(base_ + mapped_ - bytes);
    release_ = mapped_ + page;
  }
  Array(Array&& other) noexcept
      : size_(other.size_),
        mapped_(other.mapped_),
        release_(other.release_),
        base_(std::exchange(other.base_, nullptr)),
        data_(other.data_) {}
  ~Array() {
    if (base_ != nullptr) munmap(base_, static_cast<size_t>(release_));
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  int64_t size() const { return size_; }

  // True if no byte before the array was written.
  bool front_intact() const { return all_canary(base_, reinterpret_cast<const unsigned char*>(data_)); }

  static bool all_canary(const unsigned char* begin, const unsigned char* end) {
    for (; begin < end; ++begin) {
      if (*begin != kCanary) return false;
    }
    return true;
  }

 private:
  static constexpr int64_t kFront = 256;
  int64_t size_;
  int64_t mapped_ = 0;
  int64_t release_ = 0;
  unsigned char* base_ = nullptr;
  T* data_ = nullptr;
};

// A float matrix with a stride; its last row ends at the unreadable page.
class Matrix {
 public:
  Matrix(int64_t rows, int64_t columns, int64_t stride)
      : rows_(rows), columns_(columns), stride_(stride), array_(rows == 0 ? 0 : (rows - 1) * stride + columns) {}
  Matrix(int64_t rows, int64_t columns) : Matrix(rows, columns, columns) {}

  void fill(const std::function<float()>& next) {
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < columns_; ++c) at(r, c) = next();
    }
  }

  float* data() { return array_.data(); }
  const float* data() const { return array_.data(); }
  float* row(int64_t r) { return array_.data() + r * stride_; }
  const float* row(int64_t r) const { return array_.data() + r * stride_; }
  float& at(int64_t r, int64_t c) { return array_[r * stride_ + c]; }
  float at(int64_t r, int64_t c) const { return array_[r * stride_ + c]; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t stride() const { return stride_; }

  // True if nothing before the first row and between the rows was written.
  bool gaps_intact() const {
    if (!array_.front_intact()) return false;
    for (int64_t r = 0; r + 1 < rows_; ++r) {
      if (!untouched(row(r) + columns_, row(r + 1))) return false;
    }
    return true;
  }

 private:
  static bool untouched(const float* begin, const float* end) {
    return Array<float>::all_canary(reinterpret_cast<const unsigned char*>(begin),
                                    reinterpret_cast<const unsigned char*>(end));
  }

  int64_t rows_;
  int64_t columns_;
  int64_t stride_;
  Array<float> array_;
};

// True if row r of a and row s of b hold the same bits.
inline bool same_bits(const Matrix& a, int64_t r, const Matrix& b, int64_t s) {
  return std::memcmp(a.row(r), b.row(s), static_cast<size_t>(a.columns()) * sizeof(float)) == 0;
}

}  // namespace guarded
