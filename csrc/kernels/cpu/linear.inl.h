#pragma once

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

// y = residual + activate(tile) for `columns` columns of some rows; tile_stride is a multiple of kLanes.
template <typename Activate>
LSIF_INLINE void finish(const float* tile, int64_t tile_stride, int64_t rows, int64_t columns, const float* residual,
                        int64_t residual_stride, float* y, int64_t y_stride, Activate activate) {
  for (int64_t r = 0; r < rows; ++r, tile += tile_stride, y += y_stride) {
    const float* from = residual == nullptr ? nullptr : residual + r * residual_stride;
    int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) {
      const Vec z = activate(load(tile + c));
      store(y + c, from == nullptr ? z : load(from + c) + z);
    }
    if (c < columns) {
      const Vec z = activate(load(tile + c));
      store_first(y + c, from == nullptr ? z : load_first(from + c, columns - c) + z, columns - c);
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
  switch (call.params->activation) {
    case Activation::kIdentity:
      return run([](Vec z) { return z; });
    case Activation::kRelu:
      return run([](Vec z) { return relu(z); });
    case Activation::kGelu:
      return run([](Vec z) { return gelu(z); });
    case Activation::kSilu:
      return run([](Vec z) { return silu(z); });
  }
}

// Rows row .. row + kRows - 1 of kPanels panels from `panel` on.
template <int kRows, int kPanels>
LSIF_INLINE void linear_block(const LinearCall& call, int64_t row, int64_t panel) {
  constexpr int kVecs = kPanels * kPanelVecs;
  const LinearParams& params = *call.params;
  const int64_t column = panel * kLinearPanel;
  const int64_t columns = smaller(params.out_dim - column, kPanels * kLinearPanel);
  const int64_t panel_size = params.in_dim * kLinearPanel;
  Vec acc[kRows][kVecs];
  for (int v = 0; v < kVecs; ++v) {
    const int64_t left = larger(0, smaller(columns - v * kLanes, kLanes));
    const Vec start = params.bias == nullptr ? broadcast(0.0f) : load_first(params.bias + column + v * kLanes, left);
    for (int r = 0; r < kRows; ++r) acc[r][v] = start;
  }
  multiply_add<kRows, kVecs>(call.x + row * call.x_stride, call.x_stride, params.packed + panel * panel_size,
                             kLinearPanel, panel_size, params.in_dim, columns, acc);
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
  // Through memory, so that the activations are compiled once and not for every block shape.
  alignas(64) float tile[kRows * kVecs * kLanes];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) store(tile + (r * kVecs + v) * kLanes, acc[r][v]);
  }
  finish_tile(call, tile, kVecs * kLanes, row, kRows, column, columns);
}

// The panels are the outer loop: one panel's weights stay in the first-level cache while all rows pass.
void linear(const LinearParams& params, const float* x, int64_t x_stride, const float* residual,
            int64_t residual_stride, float* y, int64_t y_stride, int64_t num_rows) {
  const LinearCall call = {&params, x, x_stride, residual, residual_stride, y, y_stride};
  const int64_t panels = (params.out_dim + kLinearPanel - 1) / kLinearPanel;
  if (num_rows == 1) {  // one row alone keeps the arithmetic units busy only with several panels at once
    constexpr int kWide = kAccumulators / kPanelVecs < 4 ? kAccumulators / kPanelVecs : 4;
    int64_t panel = 0;
    for (; panel + kWide <= panels; panel += kWide) linear_block<1, kWide>(call, 0, panel);
    for (; panel < panels; ++panel) linear_block<1, 1>(call, 0, panel);
    return;
  }
  constexpr int kPanels = kAccumulators / (kMaxRows * kPanelVecs);
  int64_t panel = 0;
  for (; panel + kPanels <= panels; panel += kPanels) {
    for_row_blocks(0, num_rows, [&](auto rows, int64_t row) { linear_block<rows.value, kPanels>(call, row, panel); });
  }
  for (; panel < panels; ++panel) {
    for_row_blocks(0, num_rows, [&](auto rows, int64_t row) { linear_block<rows.value, 1>(call, row, panel); });
  }
}

}  // namespace
}  // namespace lsif::cpu::LSIF_ISA
