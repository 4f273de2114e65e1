// What the ops know about tensors: every argument is checked once, here, with a message that says which one, what was
// expected and what came; then only pointers and sizes go on to the engine.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <vector>

namespace lsif::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// A dimension that may have any size.
inline constexpr int64_t kAny = -1;

// Throws std::invalid_argument unless t is a contiguous CPU tensor of this dtype and shape.
void check_tensor(const char* argument, const Tensor& t, ScalarType dtype, const std::vector<int64_t>& shape);

const float* floats(const char* argument, const Tensor& t, const std::vector<int64_t>& shape);
const int64_t* ints(const char* argument, const Tensor& t, const std::vector<int64_t>& shape);

// Null where the argument is None.
const float* floats(const char* argument, const std::optional<Tensor>& t, const std::vector<int64_t>& shape);
const int64_t* ints(const char* argument, const std::optional<Tensor>& t, const std::vector<int64_t>& shape);

// The number of dimensions is checked before any size is read.
int64_t size_of(const char* argument, const Tensor& t, int64_t num_dims, int64_t dim);

// offsets [batch + 1] of a ragged batch of `total` rows: from 0, non-decreasing, up to total. Returns batch.
int64_t check_offsets(const char* argument, const Tensor& offsets, int64_t total);

void check_range(const char* argument, const int64_t* values, int64_t count, int64_t begin, int64_t end);

Tensor new_floats(const Tensor& like, const std::vector<int64_t>& shape);
Tensor new_ints(const Tensor& like, const std::vector<int64_t>& shape);

}  // namespace lsif::ops
