#pragma once

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

}  // namespace lsif::bindings
