// The codes of a catalogue as one block of bytes, which can be stored and mapped        (docs/score_topk.md, "Codes")
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/row_order.h"
#include "kernels/score_topk.h"

namespace lsif::engine {

// Size in bytes of the codes of a catalogue. Throws std::invalid_argument if dim is not in 1 .. kMaxScoreDim.
int64_t codes_size(int64_t num_items, int64_t dim, bool is_ordered = false);

// Codes float32 rows and their biases.
//   vectors [num_items, dim], finite; bias [num_items], finite, or null: zero
//   order: order.rows is [num_items] or empty
//   codes [codes_size(num_items, dim, !order.rows.empty())]
// The bytes are the same for any number of threads and on every machine.
void write_codes(const float* vectors, const float* bias, int64_t num_items, int64_t dim, const RowOrder& order,
                 uint8_t* codes, int threads);

// Codes of the rows [0, num_items), written by write_codes or update_codes.
struct CodedRows {
  const uint8_t* codes;
  int64_t size;  // in bytes
  int64_t num_items;
};

// Whether the codes have an order; update_codes keeps this. Throws as view_codes does.
bool is_ordered(const CodedRows& coded, int64_t dim);

// The codes of a catalogue that differs from that of `old` in the `changed` rows and in rows appended at the end. Only
// groups that hold such a row are coded again. Rows keep their slots in an order; new ones come last. The size bounds
// never shrink, so `codes` may differ in them from what write_codes gives; search results do not. Throws
// std::invalid_argument if `old` is not valid, if a changed row does not exist, or if a row to be coded is not finite;
// the values of other rows are not read.
//   codes [codes_size(num_items, dim, is_ordered(old, dim))]
void update_codes(const CodedRows& old, const float* vectors, const float* bias, int64_t num_items, int64_t dim,
                  const int64_t* changed, int64_t num_changed, uint8_t* codes, int threads);

// A view, not a copy, of codes that were written for a catalogue of this shape. Throws std::invalid_argument ("codes:
// expected ..., got ...") if they were not. Reads the whole order, if there is one.
CodesView view_codes(const uint8_t* codes, int64_t size, int64_t num_items, int64_t dim);

}  // namespace lsif::engine
