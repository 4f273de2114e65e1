// What the ops know about tensors: every argument is checked here, with a message that says which one, what was
// expected and what came; then only pointers and sizes go on. The same for every device: the values of a tensor on a
// GPU are checked on a copy in host memory, which waits for the GPU.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "engine/model.h"

namespace lsif::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// A dimension that may have any size.
inline constexpr int64_t kAny = -1;

// Where the tensors of a call have to be.
struct Place {
  bool is_cuda = false;
  int32_t index = 0;  // of the GPU
};

// Throws std::invalid_argument unless t is a contiguous tensor of this dtype and shape in this place.
void check_tensor(const char* argument, const Tensor& t, ScalarType dtype, const std::vector<int64_t>& shape,
                  Place place = {});

const float* floats(const char* argument, const Tensor& t, const std::vector<int64_t>& shape, Place place = {});
const int64_t* ints(const char* argument, const Tensor& t, const std::vector<int64_t>& shape, Place place = {});

// Null where the argument is None, and only there.
const float* floats(const char* argument, const std::optional<Tensor>& t, const std::vector<int64_t>& shape,
                    Place place = {});
const int64_t* ints(const char* argument, const std::optional<Tensor>& t, const std::vector<int64_t>& shape,
                    Place place = {});

// The number of dimensions is checked before any size is read.
int64_t size_of(const char* argument, const Tensor& t, int64_t num_dims, int64_t dim);

// "[3, 4]"
std::string shape_text(const Tensor& t);

// t, or a copy of it in host memory.
Tensor on_host(const Tensor& t);

// offsets [batch + 1] of a ragged batch of `total` rows: from 0, non-decreasing, up to total. Returns batch.
int64_t check_offsets(const char* argument, const Tensor& offsets, int64_t total);

// The offsets of a batch whose every member has `count` rows.
std::vector<int64_t> equal_offsets(int64_t batch, int64_t count);

// All values of int64 t are in [0, end).
void check_rows(const char* argument, const Tensor& t, int64_t end);

// The argument comes with the other one or neither does.
void check_both_or_none(const char* argument, const std::optional<Tensor>& t, const char* other_argument,
                        const std::optional<Tensor>& other);

// The addresses of weight_specs(config)'s tensors, whose number, types and shapes are checked.
std::vector<const void*> weight_data(const engine::ModelConfig& config, const std::vector<Tensor>& weights,
                                     Place place = {});

Tensor new_floats(const Tensor& like, const std::vector<int64_t>& shape);
Tensor new_ints(const Tensor& like, const std::vector<int64_t>& shape);

// Where results go, in one of new_floats().
inline float* output(Tensor& t) { return static_cast<float*>(t.mutable_data_ptr()); }

}  // namespace lsif::ops
