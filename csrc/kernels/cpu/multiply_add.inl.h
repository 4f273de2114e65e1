// The loop in which the encoder spends most of its time: acc += x B for a small block of rows and columns held in
// registers.
#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/linear.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

// A panel of kLinearPanel columns is kPanelVecs vectors. The registers not used as accumulators hold one column of
// weights per panel and a broadcast value; with 6 rows, a panel's loads cost less than its arithmetic.
inline constexpr int kPanelVecs = static_cast<int>(kLinearPanel) / kLanes;
inline constexpr int kAccumulators = kRegisters / 4 * 3;
inline constexpr int kMaxRows = kAccumulators / kPanelVecs < 6 ? kAccumulators / kPanelVecs : 6;

// Offset of vector `v` of a block whose panels lie panel_stride floats apart.
LSIF_INLINE int64_t vec_offset(int v, int64_t panel_stride) {
  return v / kPanelVecs * panel_stride + v % kPanelVecs * kLanes;
}

// acc[r][v] += sum_i x[r][i] B[i][v]. Each lane is one chain of fma over i = 0 .. depth - 1, so a result does not
// depend on its block or lane. With kPartial the block is one vector with only `columns` valid lanes.
template <int kRows, int kVecs, bool kPartial = false>
LSIF_INLINE void multiply_add(const float* x, int64_t x_stride, const float* b, int64_t b_stride, int64_t panel_stride,
                              int64_t depth, int64_t columns, Vec (&acc)[kRows][kVecs]) {
  static_assert(!kPartial || kVecs == 1);
  for (int64_t i = 0; i < depth; ++i, b += b_stride) {
    Vec weights[kVecs];
    for (int v = 0; v < kVecs; ++v) {
      weights[v] = kPartial ? load_first(b, columns) : load(b + vec_offset(v, panel_stride));
    }
    for (int r = 0; r < kRows; ++r) {
      const Vec xi = broadcast(x[r * x_stride + i]);
      for (int v = 0; v < kVecs; ++v) acc[r][v] = fma(xi, weights[v], acc[r][v]);
    }
  }
}

template <int kRows, int kVecs, bool kPartial>
LSIF_INLINE void accumulate_block(const float* x, int64_t x_stride, const float* b, int64_t b_stride, int64_t depth,
                                  float* y, int64_t y_stride, int64_t columns) {
  Vec acc[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) {
      const float* from = y + r * y_stride + v * kLanes;
      acc[r][v] = kPartial ? load_first(from, columns) : load(from);
    }
  }
  multiply_add<kRows, kVecs, kPartial>(x, x_stride, b, b_stride, kLinearPanel, depth, columns, acc);
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) {
      float* to = y + r * y_stride + v * kLanes;
      if (kPartial) {
        store_first(to, acc[r][v], columns);
      } else {
        store(to, acc[r][v]);
      }
    }
  }
}

// y[r][c] += sum_i x[r][i] b[i][c] for kRows rows and `columns` columns, with b: [depth, columns].
template <int kRows>
inline void accumulate(const float* x, int64_t x_stride, const float* b, int64_t b_stride, int64_t depth, float* y,
                       int64_t y_stride, int64_t columns) {
  constexpr int kVecs = kPanelVecs > 2 ? kPanelVecs : 2;
  int64_t c = 0;
  for (; c + kVecs * kLanes <= columns; c += kVecs * kLanes) {
    accumulate_block<kRows, kVecs, false>(x, x_stride, b + c, b_stride, depth, y + c, y_stride, columns);
  }
  for (; c + kLanes <= columns; c += kLanes) {
    accumulate_block<kRows, 1, false>(x, x_stride, b + c, b_stride, depth, y + c, y_stride, columns);
  }
  if (c < columns) {
    accumulate_block<kRows, 1, true>(x, x_stride, b + c, b_stride, depth, y + c, y_stride, columns - c);
  }
}

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

// Calls body(Constant<vecs>(), column) for blocks of vectors that cover `columns` columns. Blocks are as wide as
// registers allow while at most `slack` extra columns are computed, then single vectors.
template <int kRows, typename Body>
LSIF_INLINE void for_vecs(int64_t columns, int64_t slack, Body body) {
  constexpr int kFew = kPanelVecs > 2 ? kPanelVecs : 2;
  constexpr int kMany = kAccumulators / kRows < 4 ? kAccumulators / kRows : 4;
  int64_t c = 0;
  if constexpr (kMany > kFew) {
    for (; c + kMany * kLanes <= columns + slack; c += kMany * kLanes) body(Constant<kMany>(), c);
  }
  for (; c + kFew * kLanes <= columns + slack; c += kFew * kLanes) body(Constant<kFew>(), c);
  for (; c < columns; c += kLanes) body(Constant<1>(), c);
}

template <int kRows, typename Body>
LSIF_INLINE void with_rows(int64_t rows, int64_t row, Body body) {
  if constexpr (kRows > 0) {
    if (rows == kRows) return body(Constant<kRows>(), row);
    with_rows<kRows - 1>(rows, row, body);
  }
}

// Calls body(Constant<rows>(), first_row) for blocks of at most kMaxRows rows, as equal in size as possible: a block of
// one row would leave most arithmetic units idle.
template <typename Body>
LSIF_INLINE void for_row_blocks(int64_t first_row, int64_t last_row, Body body) {
  int64_t blocks = divide_up(last_row - first_row, kMaxRows);
  for (int64_t row = first_row; blocks > 0; --blocks) {
    const int64_t rows = divide_up(last_row - row, blocks);
    with_rows<kMaxRows>(rows, row, body);
    row += rows;
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
