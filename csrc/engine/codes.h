// The codes of a catalogue as one block of bytes, which can be stored and mapped        (docs/score_topk.md, "Codes")
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/row_order.h"
#include "kernels/score_topk.h"

namespace lsif::engine {

// The bytes of the codes of so many rows. Throws std::invalid_argument if dim is not in 1 .. kMaxScoreDim.
int64_t codes_size(int64_t num_items, int64_t dim, bool is_ordered = false);

// Codes rows of float32 and their biases.
//   vectors [num_items, dim], finite; bias [num_items], finite, or null: zero
//   order: its rows [num_items], or none
//   codes [codes_size(num_items, dim, !order.rows.empty())]
// The same bytes for any number of threads and on every machine.
void write_codes(const float* vectors, const float* bias, int64_t num_items, int64_t dim, const RowOrder& order,
                 uint8_t* codes, int threads);

// Codes of the rows [0, num_items) as write_codes or update_codes left them.
struct CodedRows {
  const uint8_t* codes;
  int64_t size;  // in bytes
  int64_t num_items;
};

// Whether the codes have an order; so have those that update_codes makes of them. Throws as view_codes does.
bool is_ordered(const CodedRows& coded, int64_t dim);

// The codes of a catalogue that differs from the one of `old` in the `changed` rows and in the rows after its last one.
// Only groups that hold such a row are coded anew. Rows keep their place in an order, new ones come last. Bounds of
// sizes stay at least what they were, so `codes` may differ from write_codes' in them; results do not. Throws
// std::invalid_argument if `old` are not codes, if a changed row does not exist, or if a row to be coded is not finite;
// the values of other rows are not read.
//   codes [codes_size(num_items, dim, is_ordered(old, dim))]
void update_codes(const CodedRows& old, const float* vectors, const float* bias, int64_t num_items, int64_t dim,
                  const int64_t* changed, int64_t num_changed, uint8_t* codes, int threads);

// Codes that were written for a catalogue of this shape, in place. Throws std::invalid_argument ("codes: expected ...,
// got ...") if they are not; reads the order, where there is one.
CodesView view_codes(const uint8_t* codes, int64_t size, int64_t num_items, int64_t dim);

}  // namespace lsif::engine
