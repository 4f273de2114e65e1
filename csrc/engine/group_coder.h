// Codes groups of 16 rows: scales, codes, and bounds rounded outwards                    (docs/score_topk.md, "Codes")
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/score_topk.h"

namespace lsif::engine {

// Pointers to float32 rows, and their biases.
struct RowGroup {
  int64_t count = 0;  // <= kGroupRows
  const float* rows[kGroupRows] = {};
  float biases[kGroupRows] = {};
};

// The rows of a cell or a region.
struct Members {
  const float* const* rows;
  int64_t count;
};

// The largest distance of a member from `centre`.
double radius(const Members& members, int64_t dim, const float* centre);

// Codes groups of rows one after another, and tracks bounds of their sizes.
class GroupCoder {
 public:
  explicit GroupCoder(int64_t dim) : dim_(dim), codes_(kGroupRows * dim) {}

  // lines: group_bytes(dim) bytes.
  void write(const RowGroup& group, uint8_t* lines) { write(group, nullptr, lines); }

  // Codes centres, each with an error that covers members[r], the rows that centre r represents.
  void write(const RowGroup& centres, const Members* members, uint8_t* lines);

  // CodesView::row_size and bias_size for the groups written so far.
  float row_size() const;
  float bias_size() const { return bias_size_; }
  // Whether there is a group that can never be dropped.
  bool has_unbounded() const { return has_unbounded_; }

 private:
  // The bounds of one row, in float64, rounded up.
  struct RowBounds {
    double code_norm;    // |c|
    double error_ratio;  // |x - s c| / s
  };

  void write_biases(GroupSide& side);
  void write_rows(GroupSide& side);
  float wanted_scale(int64_t r) const;
  RowBounds write_row(int64_t r, float wanted, GroupSide& side);
  RowBounds bounds_of(int64_t r, double scale) const;

  int64_t dim_;
  RowGroup group_;
  const Members* members_ = nullptr;
  std::vector<int32_t> codes_;  // [kGroupRows, dim], of the current group
  double row_size_ = 0;
  float bias_size_ = 0;
  bool has_unbounded_ = false;
};

}  // namespace lsif::engine
