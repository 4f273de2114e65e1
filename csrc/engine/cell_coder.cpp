#include "engine/cell_coder.h"

#include <algorithm>

namespace lsif::engine {

void write_mean(const Members& members, int64_t dim, float* mean) {
  std::vector<double> sum(dim);
  for (int64_t j = 0; j < members.count; ++j) {
    for (int64_t i = 0; i < dim; ++i) sum[i] += static_cast<double>(members.rows[j][i]);
  }
  for (int64_t i = 0; i < dim; ++i) mean[i] = static_cast<float>(sum[i] / static_cast<double>(members.count));
}

RowGroup group_of(const SlotRows& rows, int64_t group) {
  const int64_t first = group * kGroupRows;
  RowGroup result;
  result.count = std::min(kGroupRows, rows.num_items - first);
  for (int64_t r = 0; r < result.count; ++r) {
    result.rows[r] = rows.row(first + r);
    result.biases[r] = rows.bias_of(first + r);
  }
  return result;
}

CellCoder::CellCoder(const SlotRows& rows, int64_t rows_each, GroupCoder& coder)
    : rows_(rows),
      rows_each_(rows_each),
      coder_(coder),
      members_(kGroupRows * rows_each),
      centres_(kGroupRows * rows.dim) {}

void CellCoder::write(int64_t group, uint8_t* lines) {
  const int64_t first = group * kGroupRows;
  Members members[kGroupRows] = {};
  RowGroup centres;
  centres.count = std::min(kGroupRows, divide_up(rows_.num_items, rows_each_) - first);
  for (int64_t r = 0; r < centres.count; ++r) {
    const int64_t slot = (first + r) * rows_each_;
    const float** rows = members_.data() + r * rows_each_;
    members[r] = {rows, std::min(rows_each_, rows_.num_items - slot)};
    centres.biases[r] = rows_.bias_of(slot);
    for (int64_t i = 0; i < members[r].count; ++i) {
      rows[i] = rows_.row(slot + i);
      centres.biases[r] = std::max(centres.biases[r], rows_.bias_of(slot + i));
    }
    float* centre = centres_.data() + r * rows_.dim;
    write_mean(members[r], rows_.dim, centre);  // any other vector would be correct, but the bounds would be looser
    centres.rows[r] = centre;
  }
  coder_.write(centres, members, lines);
}

}  // namespace lsif::engine
