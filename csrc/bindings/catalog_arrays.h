#pragma once

#include "bindings/arrays.h"
#include "kernels/score_topk.h"

namespace lsif::bindings {

// A catalogue as NumPy arrays, in the order torch.ops.lsif.quantize_rows returns its codes. Whoever reads the view
// holds this.
struct CatalogArrays {
  py::array vectors;
  py::array bias;
  py::array codes;
  py::array scales;
  py::array errors;
  py::array norms;

  // Refuses arrays of other dtypes and shapes than a catalogue of so many rows has.
  CatalogView checked(int64_t num_items, int64_t dim) const {
    return {view<float>("vectors", vectors, {num_items, dim}),
            view<float>("bias", bias, {num_items}),
            view<int8_t>("codes", codes, {num_items, code_stride(dim)}),
            view<float>("scales", scales, {num_items}),
            view<float>("errors", errors, {num_items}),
            view<float>("norms", norms, {num_items}),
            num_items,
            dim};
  }
};

}  // namespace lsif::bindings
