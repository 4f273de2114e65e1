#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "engine/ragged.h"
#include "engine/score_checks.h"
#include "engine/scratch.h"

namespace lsif::bindings {
namespace {

py::tuple ragged_union(const std::vector<std::pair<py::array, py::array>>& parts, int64_t num_items) {
  if (parts.empty()) refuse("parts", "at least one", "none");
  const int64_t batch = parts[0].second.size() - 1;
  if (batch < 0) refuse("offsets", "at least one value", "none");
  engine::Scratch scratch;
  std::vector<engine::RaggedRows> copies;
  int64_t most = 0;
  for (const auto& [rows, offsets] : parts) {
    const int64_t total = rows.size();
    copies.push_back(
        {copy_or_null("rows", rows, total, scratch), copy_or_null("offsets", offsets, batch + 1, scratch)});
    engine::check_offsets("offsets", copies.back().offsets, batch, total);
    engine::check_score_rows("rows", copies.back().rows, copies.back().offsets, batch, num_items);
    most += total;
  }
  int64_t* rows = scratch.ints(most);
  Array<int64_t> offsets(batch + 1);
  int64_t* ends = offsets.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    engine::unite(copies, batch, rows, ends);
  }
  return py::make_tuple(Array<int64_t>(ends[batch], rows), offsets);
}

}  // namespace

void bind_ragged_union(py::module_& m) {
  m.def(
      "ragged_union", &ragged_union, py::arg("parts"), py::arg("num_items"),
      "(rows, offsets): of each user the rows that any of the parts has, ascending and each once. A part is rows int64 "
      "[total] with offsets int64 [batch + 1].");
}

}  // namespace lsif::bindings
