#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "engine/codes.h"
#include "kernels/score_topk.h"

namespace lsif::bindings {

// A catalogue as NumPy arrays. Whoever reads the view holds this.
struct CatalogArrays {
  py::array vectors;
  py::array bias;
  py::array codes;  // as torch.ops.lsif.code_catalog returns them

  // Refuses arrays of other dtypes and shapes than a catalogue of so many rows has.
  CatalogView checked(int64_t num_items, int64_t dim) const {
    const int64_t size = codes.size();
    return {view<float>("vectors", vectors, {num_items, dim}), view<float>("bias", bias, {num_items}),
            engine::view_codes(view<uint8_t>("codes", codes, {size}), size, num_items, dim), num_items, dim};
  }
};

// For each of a batch of users a bitmap of the rows that may be found, or None; or None for all. Holds the bitmaps.
class AllowedRows {
 public:
  AllowedRows() = default;
  AllowedRows(const py::object& allowed, int64_t batch, int64_t num_items) {
    if (allowed.is_none()) return;
    held_ = allowed.cast<std::vector<py::object>>();
    if (static_cast<int64_t>(held_.size()) != batch) {
      refuse("allowed", std::to_string(batch) + " bitmaps", std::to_string(held_.size()));
    }
    const int64_t num_words = (num_items + 63) / 64;
    for (const py::object& bitmap : held_) {
      bitmaps_.push_back(bitmap.is_none() ? nullptr
                                          : view<uint64_t>("allowed", array_from("allowed", bitmap), {num_words}));
    }
  }

  // As requests take it: null for all.
  const uint64_t* const* data() const { return bitmaps_.empty() ? nullptr : bitmaps_.data(); }

 private:
  std::vector<py::object> held_;
  std::vector<const uint64_t*> bitmaps_;
};

}  // namespace lsif::bindings
