// Codes groups of 16 rows: scales, codes, and bounds rounded outwards                    (docs/score_topk.md, "Codes")
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/score_topk.h"

namespace lsif::engine {

// Codes groups of rows one after another, and remembers how large they were.
class GroupCoder {
 public:
  // vectors [num_items, dim], finite; bias [num_items], finite, or null: zero
  GroupCoder(const float* vectors, const float* bias, int64_t num_items, int64_t dim);

  // lines: group_bytes(dim) bytes.
  void write(int64_t group, uint8_t* lines);

  // Of the groups written: CodesView::row_size and bias_size.
  float row_size() const;
  float bias_size() const { return bias_size_; }

 private:
  // The bounds of one row, in float64 and rounded up.
  struct RowBounds {
    double code_norm;    // |c|
    double error_ratio;  // |x - s c| / s
  };

  const float* row(int64_t r) const { return vectors_ + (first_ + r) * dim_; }
  void write_biases(GroupSide& side);
  void write_rows(GroupSide& side);
  RowBounds write_row(int64_t r, float wanted, GroupSide& side);
  RowBounds bounds_of(int64_t r, double scale) const;

  const float* vectors_;
  const float* bias_;
  int64_t num_items_;
  int64_t dim_;
  int64_t first_ = 0;
  int64_t count_ = 0;
  std::vector<int32_t> codes_;  // [kGroupRows, dim], of the group at hand
  double row_size_ = 0;
  float bias_size_ = 0;
};

}  // namespace lsif::engine
