#pragma once

#include "kernels/cpu/bfloat16.inl.h"
#include "kernels/cpu/multiply_add.inl.h"
#include "kernels/cpu/simd.h"
#include "kernels/linear.h"

namespace lsif::cpu::LSIF_ISA {
namespace {

struct LinearCall {
  const LinearParams* params;
  const float* x;
  int64_t x_stride;
  const float* residual;
  int64_t residual_stride;
  float* y;
  int64_t y_stride;
};

// y = residual + activate(tile) for kCount whole vectors.
template <int kCount, typename Activate>
LSIF_INLINE void finish_vecs(const float* tile, const float* residual, float* y, Activate activate) {
  Vec z[kCount];
  for (int v = 0; v < kCount; ++v) z[v] = load(tile + v * kLanes);
  activate(z);
  for (int v = 0; v < kCount; ++v)
    store(y + v * kLanes, residual == nullptr ? z[v] : load(residual + v * kLanes) + z[v]);
}

// The same for `columns` columns of several rows; tile_stride is a multiple of kLanes.
template <typename Activate>
LSIF_INLINE void finish(const float* tile, int64_t tile_stride, int64_t rows, int64_t columns, const float* residual,
                        int64_t residual_stride, float* y, int64_t y_stride, Activate activate) {
  constexpr int kCount = 4;
  for (int64_t r = 0; r < rows; ++r, tile += tile_stride, y += y_stride) {
    const float* from = residual == nullptr ? nullptr : residual + r * residual_stride;
    const auto residual_at = [&](int64_t c) { return from == nullptr ? nullptr : from + c; };
    int64_t c = 0;
    for (; c + kCount * kLanes <= columns; c += kCount * kLanes)
      finish_vecs<kCount>(tile + c, residual_at(c), y + c, activate);
    for (; c + kLanes <= columns; c += kLanes) finish_vecs<1>(tile + c, residual_at(c), y + c, activate);
    if (c < columns) {
      Vec z[1] = {load(tile + c)};
      activate(z);
      store_first(y + c, from == nullptr ? z[0] : load_first(from + c, columns - c) + z[0], columns - c);
    }
  }
}

inline void finish_tile(const LinearCall& call, const float* tile, int64_t tile_stride, int64_t row, int64_t rows,
                        int64_t column, int64_t columns) {
  const float* from = call.residual == nullptr ? nullptr : call.residual + row * call.residual_stride + column;
  float* to = call.y + row * call.y_stride + column;
  const auto run = [&](auto activate) {
    finish(tile, tile_stride, rows, columns, from, call.residual_stride, to, call.y_stride, activate);
  };
  const auto each = [](auto function) {
    return [function](auto& z) {
      for (Vec& one : z) one = function(one);
    };
  };
  switch (call.params->activation) {
    case Activation::kIdentity:
      return run(each([](Vec z) { return z; }));
    case Activation::kRelu:
      return run(each([](Vec z) { return relu(z); }));
    case Activation::kGelu:
      if (call.params->packed_bf16 != nullptr) return run([](auto& z) { gelu(kCoarseGelu, kCoarseGeluTop, z); });
      return run([](auto& z) { gelu(kGelu, kGeluTop, z); });
    case Activation::kSilu:
      return run(each([](Vec z) { return silu(z); }));
  }
}

// A block of outputs: kRows rows from `row` on, `columns` columns from `column` on.
template <int kRows, int kVecs>
LSIF_INLINE void start_block(const LinearCall& call, int64_t column, int64_t columns, Vec (&acc)[kRows][kVecs]) {
  const float* bias = call.params->bias;
  for (int v = 0; v < kVecs; ++v) {
    const int64_t left = larger(0, smaller(columns - v * kLanes, kLanes));
    const Vec start = bias == nullptr ? broadcast(0.0f) : load_first(bias + column + v * kLanes, left);
    for (int r = 0; r < kRows; ++r) acc[r][v] = start;
  }
}

template <int kRows, int kVecs>
LSIF_INLINE void finish_block(const LinearCall& call, int64_t row, int64_t column, int64_t columns,
                              const Vec (&acc)[kRows][kVecs]) {
  const LinearParams& params = *call.params;
  if (params.activation == Activation::kIdentity && columns == kVecs * kLanes) {
    const float* from = call.residual == nullptr ? nullptr : call.residual + row * call.residual_stride + column;
    float* to = call.y + row * call.y_stride + column;
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVecs; ++v) {
        const Vec z = acc[r][v];
        store(to + r * call.y_stride + v * kLanes,
              from == nullptr ? z : load(from + r * call.residual_stride + v * kLanes) + z);
      }
    }
    return;
  }
  // Goes through memory, so that the activations are compiled once and not for each block shape.
  alignas(64) float tile[kRows * kVecs * kLanes];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) store(tile + (r * kVecs + v) * kLanes, acc[r][v]);
  }
  finish_tile(call, tile, kVecs * kLanes, row, kRows, column, columns);
}

// Computes rows row .. row + kRows - 1 of kPanels panels, from `panel` on.
template <int kRows, int kPanels>
LSIF_INLINE void linear_block(const LinearCall& call, int64_t row, int64_t panel) {
  constexpr int kVecs = kPanels * kPanelVecs;
  const LinearParams& params = *call.params;
  const int64_t column = panel * kLinearPanel;
  const int64_t columns = smaller(params.out_dim - column, kPanels * kLinearPanel);
  const int64_t panel_size = params.in_dim * kLinearPanel;
  Vec acc[kRows][kVecs];
  start_block(call, column, columns, acc);
  multiply_add<kRows, kVecs>(call.x + row * call.x_stride, call.x_stride, params.packed + panel * panel_size,
                             kLinearPanel, panel_size, params.in_dim, columns, acc);
  finish_block(call, row, column, columns, acc);
}

// Calls body(Constant<panels>(), panel) for blocks of panels wide enough to use all accumulators with kRows rows.
template <int kRows, typename Body>
LSIF_INLINE void for_panel_blocks(int64_t panels, Body body) {
  constexpr int kFit = kAccumulators / (kRows * kPanelVecs);
  constexpr int kPanels = kFit < 4 ? kFit : 4;
  int64_t panel = 0;
  for (; panel + kPanels <= panels; panel += kPanels) body(Constant<kPanels>(), panel);
  for (; panel < panels; ++panel) body(Constant<1>(), panel);
}

// ---- bfloat16: rows are rounded into a buffer on the stack, as many at a time as share a pass over the weights

inline constexpr int64_t kRoundedDepth = 512;
inline constexpr int64_t kRoundedRows = 4 * kMaxRows;

struct RoundedRows {
  alignas(64) Rounded values[kRoundedRows * kRoundedDepth];  // row stride kRoundedDepth
};

// Rounds columns begin .. begin + depth - 1 of some rows; an odd last column is paired with zeros.
inline void round_rows(const LinearCall& call, int64_t row, int64_t rows, int64_t begin, int64_t depth,
                       RoundedRows& rounded) {
  for (int64_t r = 0; r < rows; ++r) {
    round_to_bf16(call.x + (row + r) * call.x_stride + begin, depth, rounded.values + r * kRoundedDepth);
  }
}

// `rounded` holds the rows from the block's row `first` on, or is filled part by part here if rows are too long for it.
template <int kRows, int kPanels>
LSIF_INLINE void linear_bf16_block(const LinearCall& call, RoundedRows& rounded, int64_t first, int64_t row,
                                   int64_t panel) {
  constexpr int kVecs = kPanels * kPanelVecs;
  const LinearParams& params = *call.params;
  const int64_t column = panel * kLinearPanel;
  const int64_t columns = smaller(params.out_dim - column, kPanels * kLinearPanel);
  const int64_t panel_size = (params.in_dim + 1) / 2 * 2 * kLinearPanel;
  const uint16_t* weights = params.packed_bf16 + panel * panel_size;
  Vec acc[kRows][kVecs];
  start_block(call, column, columns, acc);
  for (int64_t begin = 0; begin < params.in_dim; begin += kRoundedDepth) {
    const int64_t depth = smaller(kRoundedDepth, params.in_dim - begin);
    if (params.in_dim > kRoundedDepth) round_rows(call, row, kRows, begin, depth, rounded);
    multiply_add_pairs<kRows, kVecs>(rounded.values + first * kRoundedDepth, kRoundedDepth,
                                     weights + begin * kLinearPanel, kLinearPanel, panel_size / 2, (depth + 1) / 2,
                                     acc);
  }
  finish_block(call, row, column, columns, acc);
}

inline void linear_bf16(const LinearCall& call, int64_t panels, int64_t num_rows) {
  RoundedRows rounded;
  const bool fits = call.params->in_dim <= kRoundedDepth;
  if (num_rows == 1) {
    if (fits) round_rows(call, 0, 1, 0, call.params->in_dim, rounded);
    return for_panel_blocks<1>(
        panels, [&](auto width, int64_t panel) { linear_bf16_block<1, width.value>(call, rounded, 0, 0, panel); });
  }
  for (int64_t begin = 0; begin < num_rows; begin += kRoundedRows) {
    const int64_t end = smaller(begin + kRoundedRows, num_rows);
    if (fits) round_rows(call, begin, end - begin, 0, call.params->in_dim, rounded);
    for_panel_blocks<kMaxRows>(panels, [&](auto width, int64_t panel) {
      for_row_blocks(begin, end, [&](auto rows, int64_t row) {
        linear_bf16_block<rows.value, width.value>(call, rounded, fits ? row - begin : 0, row, panel);
      });
    });
  }
}

void linear(const LinearParams& params, const float* x, int64_t x_stride, const float* residual,
            int64_t residual_stride, float* y, int64_t y_stride, int64_t num_rows) {
  const LinearCall call = {&params, x, x_stride, residual, residual_stride, y, y_stride};
  const int64_t panels = divide_up(params.out_dim, kLinearPanel);
  if (params.packed_bf16 != nullptr) return linear_bf16(call, panels, num_rows);
  if (num_rows == 1) {  // a single row keeps the arithmetic units busy only with several panels at once
    return for_panel_blocks<1>(panels,
                               [&](auto width, int64_t panel) { linear_block<1, width.value>(call, 0, panel); });
  }
  // The outer loop is over panels, so that a panel's weights stay in the L1 cache for all rows.
  for_panel_blocks<kMaxRows>(panels, [&](auto width, int64_t panel) {
    for_row_blocks(0, num_rows,
                   [&](auto rows, int64_t row) { linear_block<rows.value, width.value>(call, row, panel); });
  });
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
