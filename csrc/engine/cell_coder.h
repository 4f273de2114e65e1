// Codes the rows of a catalogue, group by group, and its cells and regions               (docs/score_topk.md, "Cells")
#pragma once

#include <cstdint>
#include <vector>

#include "engine/group_coder.h"

namespace lsif::engine {

// The rows to code, by slot.
struct SlotRows {
  const float* vectors;  // [num_items, dim]
  const float* bias;     // [num_items], or null: zero
  int64_t num_items;
  int64_t dim;
  const int32_t* order;  // [num_items], the row of each slot; null: slot i is row i

  int64_t item(int64_t slot) const { return order == nullptr ? slot : order[slot]; }
  const float* row(int64_t slot) const { return vectors + item(slot) * dim; }
  float bias_of(int64_t slot) const { return bias == nullptr ? 0.0f : bias[item(slot)]; }
};

void write_mean(const Members& members, int64_t dim, float* mean);

RowGroup group_of(const SlotRows& rows, int64_t group);

// Codes cells or regions of rows_each rows, group by group.
class CellCoder {
 public:
  CellCoder(const SlotRows& rows, int64_t rows_each, GroupCoder& coder);

  // lines: group_bytes(dim) bytes.
  void write(int64_t group, uint8_t* lines);

 private:
  const SlotRows& rows_;
  int64_t rows_each_;
  GroupCoder& coder_;
  std::vector<const float*> members_;  // [kGroupRows, rows_each]
  std::vector<float> centres_;         // [kGroupRows, dim]
};

}  // namespace lsif::engine
