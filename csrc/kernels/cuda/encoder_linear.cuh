// Linear layers by one block of threads                                              (encode_users.cu, user_states.cu)
//
// They compute float32 with TF32 matrix instructions: x = high + low, W likewise (split_to_tf32), and x W = low high +
// high low + high high, six instructions for 16 inputs. Instructions truncate where float32 rounds, and truncate more
// the larger the accumulator is, so this sum begins at 0. It is then added to the output's float32 sum, which begins at
// the bias; inputs are in ascending order. So an output depends only on its row and its weights. Error before the
// activation: at most (in_dim / 16 + 46) 2^-24 (|bias| + sum_i |x_i W_i|) for |x|, |W| < 2^127, where a lower part
// below 2^-126 may count as 0:
//   8     low low is omitted: 2^-22; each low has one bit too many for TF32: 2^-23
//   36    an instruction is assumed to truncate each of 9 terms except the largest, and their sum, to 2^-23 of the
//         largest (PTX does not specify it): 9 times 2^-23 for each of the two of high high; those with a low add 2^-10
//         of that
//   rest  additions in float32, and the omitted second-order terms
#pragma once

#include "kernels/cuda/encoder_memory.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/linear.h"

namespace lsif::cuda {

inline constexpr int kTileRows = 16;
inline constexpr int kPanel = static_cast<int>(kLinearPanel);
inline constexpr int kStepDepth = 16;  // inputs per step

// With more rows per warp, weights are split less often; with fewer, more warps are busy.
inline constexpr int kFewestTasks = kEncoderWarps;

// The linear layers' scratch, at the start of the block's shared memory: one tile of outputs per warp.
inline constexpr int kLinearScratch = kEncoderWarps * kTileRows * kPanel;

__device__ inline float* linear_scratch() { return dynamic_shared(); }

__device__ inline float* warp_scratch() {
  return linear_scratch() + static_cast<int>(threadIdx.x) / kWarp * kTileRows * kPanel;
}

struct LinearOutput {
  const float* residual;  // or null
  int residual_stride;
  float* y;  // may be the residual
  int y_stride;
};

// With g = lane / 4 and t = lane % 4, a thread has inputs 4 t .. 4 t + 3 of a step. Its weights are those of outputs 2
// g and 2 g + 1 of a panel, which gives it the sums of outputs 4 t .. 4 t + 3. Its rows are place() and place() + 8 of
// a tile; rows 4 apart are adjacent, so that 8 threads that read 16 bytes each have no bank conflict.
struct LinearLane {
  int g;
  int t;

  __device__ LinearLane() {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    g = lane / 4;
    t = lane % 4;
  }
  __device__ int place() const { return place_of(g); }
  __device__ static int place_of(int g) { return g / 2 + g % 2 * 4; }
};

// A panel's weights for one step: inputs 4 t .. 4 t + 3, outputs 2 g and 2 g + 1; 0 past the last input.
struct StepWeights {
  float2 w[4];
};

// Reads them from a given step on.
struct WeightReader {
  const float* from;
  int left;  // inputs left

  __device__ WeightReader(const float* packed, int in_dim, const LinearLane& lane, int panel, int step) {
    const int first = step * kStepDepth + 4 * lane.t;
    from = packed + (panel * in_dim + first) * kPanel + 2 * lane.g;
    left = in_dim - first;
  }

  __device__ void advance(int steps) {
    from += steps * kStepDepth * kPanel;
    left -= steps * kStepDepth;
  }

  // kWhole: the step has 16 inputs.
  template <bool kWhole>
  __device__ void load(StepWeights& weights, int step) const {
    for (int k = 0; k < 4; ++k) {
      const int input = step * kStepDepth + k;
      const auto* pair = reinterpret_cast<const float2*>(from + input * kPanel);
      weights.w[k] = kWhole || input < left ? __ldg(pair) : float2{0.0f, 0.0f};
    }
  }
};

// Indices: first or second 8 inputs of the step; even or odd outputs.
struct WeightFactors {
  MmaTf32B high[2][2];
  MmaTf32B low[2][2];

  __device__ explicit WeightFactors(const StepWeights& weights) {
    for (int k = 0; k < 4; ++k) {
      const SplitFloat even = split_to_tf32(weights.w[k].x);
      const SplitFloat odd = split_to_tf32(weights.w[k].y);
      high[k / 2][0].regs[k % 2] = even.high, low[k / 2][0].regs[k % 2] = even.low;
      high[k / 2][1].regs[k % 2] = odd.high, low[k / 2][1].regs[k % 2] = odd.low;
    }
  }
};

// Whether rows are in shared memory and consist of whole steps of 16-byte reads. In emulation: whole steps, except in
// shuffled order.
__device__ inline bool are_whole_steps([[maybe_unused]] const RowsView& x, int64_t in_dim) {
#if defined(LSIF_CUDA_EMULATED)
  return in_dim % kStepDepth == 0 && emulated::order != emulated::Order::kShuffled;
#else
  return in_dim % kStepDepth == 0 && __isShared(x.data);
#endif
}

// A thread's part of a row: inputs 4 t .. 4 t + 3 of each step.
struct AnyRow {
  static constexpr bool kWhole = false;
  const float* from;
  int left;

  __device__ void set(const float* row, const LinearLane& lane, int in_dim) {
    const int first = 4 * lane.t < in_dim ? 4 * lane.t : 0;
    from = row + first;
    left = in_dim - 4 * lane.t;
  }

  // Sets inputs past the last to 0, whatever was read there: rows are allocated in whole 16 bytes.
  __device__ void load(int step, float (&x)[4]) const {
    const int first = step * kStepDepth;
    const float4 all = *reinterpret_cast<const float4*>(from + (first < left ? first : 0));
    x[0] = first < left ? all.x : 0.0f;
    x[1] = first + 1 < left ? all.y : 0.0f;
    x[2] = first + 2 < left ? all.z : 0.0f;
    x[3] = first + 3 < left ? all.w : 0.0f;
  }
};

// For rows with are_whole_steps().
struct SharedRow {
  static constexpr bool kWhole = true;
#if defined(LSIF_CUDA_EMULATED)
  const float* from;

  __device__ void set(const float* row, const LinearLane& lane, int) { from = row + 4 * lane.t; }

  __device__ void load(int step, float (&x)[4]) const {
    const float4 all = *reinterpret_cast<const float4*>(from + step * kStepDepth);
    x[0] = all.x, x[1] = all.y, x[2] = all.z, x[3] = all.w;
  }
#else
  unsigned from;

  __device__ void set(const float* row, const LinearLane& lane, int) {
    from = static_cast<unsigned>(__cvta_generic_to_shared(row + 4 * lane.t));
  }

  __device__ void load(int step, float (&x)[4]) const {
    asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];"
                 : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3])
                 : "r"(from + static_cast<unsigned>(step) * (kStepDepth * 4)));
  }
#endif
};

// A thread's rows of kTiles tiles; past the last row that one again.
template <int kTiles, typename Row>
__device__ void set_rows(Row (&rows)[kTiles][2], const RowsView& x, int in_dim, const LinearLane& lane, int first_row,
                         int count) {
  for (int m = 0; m < kTiles; ++m) {
    for (int half = 0; half < 2; ++half) {
      const int row = min(first_row + m * kTileRows + 8 * half + lane.place(), count - 1);
      rows[m][half].set(x.row(row), lane, in_dim);
    }
  }
}

// A thread's sums for kTiles tiles of rows and one panel: rows place() and place() + 8 of each, outputs 4 t .. 4 t + 3.
template <int kTiles>
struct PanelSums {
  float z[kTiles][2][4];

  __device__ void start(const LinearParams& params, int column) {
    for (int c = 0; c < 4; ++c) {
      const bool has_bias = params.bias != nullptr && column + c < params.out_dim;
      const float bias = has_bias ? __ldg(params.bias + column + c) : 0.0f;
      for (int m = 0; m < kTiles; ++m) z[m][0][c] = z[m][1][c] = bias;
    }
  }

  template <typename Row>
  __device__ void add_step(const Row (&rows)[kTiles][2], const WeightFactors& w, int step) {
    for (int m = 0; m < kTiles; ++m) {
      MmaTf32A x_high[2];
      MmaTf32A x_low[2];
      for (int half = 0; half < 2; ++half) {
        float x[4];
        rows[m][half].load(step, x);
        for (int k = 0; k < 4; ++k) {
          const SplitFloat split = split_to_tf32(x[k]);
          x_high[k / 2].regs[k % 2 * 2 + half] = split.high;
          x_low[k / 2].regs[k % 2 * 2 + half] = split.low;
        }
      }
      MmaFloatC sums[2] = {};  // the smallest terms first
      for (int i = 0; i < 4; ++i) multiply_add(sums[i % 2], x_low[i / 2], w.high[i / 2][i % 2]);
      for (int i = 0; i < 4; ++i) multiply_add(sums[i % 2], x_high[i / 2], w.low[i / 2][i % 2]);
      for (int i = 0; i < 4; ++i) multiply_add(sums[i % 2], x_high[i / 2], w.high[i / 2][i % 2]);
      for (int c = 0; c < 4; ++c) {
        z[m][0][c] += sums[c % 2].regs[c / 2];
        z[m][1][c] += sums[c % 2].regs[2 + c / 2];
      }
    }
  }

  // Stores tile m as [2][8][kPanel]: the row place_of(g) + 8 half.
  __device__ void keep(float* partial, const LinearLane& lane, int m) const {
    for (int half = 0; half < 2; ++half) {
      auto* to = reinterpret_cast<float4*>(partial + (8 * half + lane.g) * kPanel);
      to[lane.t] = {z[m][half][0], z[m][half][1], z[m][half][2], z[m][half][3]};
    }
  }
};

template <int kCount>
__device__ void activate(float4 (&z)[kCount], Activation activation) {
  const auto each = [&](auto f) {
    for (float4& four : z) four = {f(four.x), f(four.y), f(four.z), f(four.w)};
  };
  switch (activation) {  // one switch, so that evaluations overlap
    case Activation::kIdentity:
      return;
    case Activation::kRelu:
      return each([](float x) { return activate(x, Activation::kRelu); });
    case Activation::kGelu:
      return each([](float x) { return activate(x, Activation::kGelu); });
    case Activation::kSilu:
      return each([](float x) { return smooth_silu(x); });
  }
}

__device__ inline float4 sum_of(float4 a, float4 b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }

// Stores 4 adjacent outputs, of which `count` exist.
__device__ inline void store_outputs(float4 y, int row, int column, int count, const LinearOutput& out) {
  float* to = out.y + row * out.y_stride + column;
  const float* residual = out.residual == nullptr ? to : out.residual + row * out.residual_stride + column;
  const bool is_aligned = (reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(residual)) % 16 == 0;
  if (count >= 4 && is_aligned) {
    if (out.residual != nullptr) y = sum_of(y, *reinterpret_cast<const float4*>(residual));
    *reinterpret_cast<float4*>(to) = y;
    return;
  }
  const float values[4] = {y.x, y.y, y.z, y.w};
  for (int c = 0; c < 4; ++c) {
    if (c < count) to[c] = out.residual == nullptr ? values[c] : values[c] + residual[c];
  }
}

// By one warp: the epilogue of the tile PanelSums::keep stored in warp_scratch(): rows from first_row on, of num_rows,
// columns from first_column on. Not inlined, as activations are long.
__device__ __attribute__((noinline)) inline void finish_tile(const LinearParams& params, int first_row, int num_rows,
                                                             int first_column, const LinearOutput& out) {
  constexpr int kFours = kPanel / 4;
  constexpr int kEach = kTileRows * kFours / kWarp;  // elements per thread, whose evaluations overlap
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int column = first_column + lane % kFours * 4;
  const int count = static_cast<int>(params.out_dim) - column;
  __syncwarp();
  float4 z[kEach];
  for (int i = 0; i < kEach; ++i) z[i] = reinterpret_cast<const float4*>(warp_scratch())[lane + i * kWarp];
  activate(z, params.activation);
  for (int i = 0; i < kEach; ++i) {
    const int row = first_row + LinearLane::place_of(lane / kFours) + i * kWarp / kFours;
    if (row < num_rows && count > 0) store_outputs(z[i], row, column, count, out);
  }
  __syncwarp();  // the next tile overwrites this one
}

// Steps whose weights are prefetched into registers.
template <int kTiles>
inline constexpr int kAhead = 4 / kTiles;

// For consecutive layers that do not depend on each other: only the first begins with a barrier, and only the last ends
// with one. If a layer has few tasks, the next one's first tasks go to other warps. All layers must have rows.
struct Turn {
  bool is_first = true;
  bool is_last = true;
  int first_warp = 0;
};

// Each warp processes kTiles tiles of rows and one panel at a time. The weights of the next steps are loaded in
// advance, those of the first before the barrier.
template <typename Row, int kTiles>
__device__ inline void linear_tiles(const LinearParams& params, const RowsView& x, int count, const LinearOutput& out,
                                    Turn turn) {
  const LinearLane lane;
  const float* const packed = params.packed;
  const int in_dim = static_cast<int>(params.in_dim);
  const int num_steps = static_cast<int>(divide_up(in_dim, kStepDepth));
  const int num_groups = static_cast<int>(divide_up(count, kTiles * kTileRows));
  const int num_tasks = static_cast<int>(divide_up(params.out_dim, kPanel)) * num_groups;
  int task = (static_cast<int>(threadIdx.x) / kWarp + kEncoderWarps - turn.first_warp) % kEncoderWarps;
  WeightReader reader(packed, in_dim, lane, task < num_tasks ? task / num_groups : 0, 0);
  StepWeights next[kAhead<kTiles>] = {};
  for (int a = 0; a < kAhead<kTiles>; ++a) {
    if (!Row::kWhole || a < num_steps) reader.load<Row::kWhole>(next[a], a);
  }
  if (turn.is_first) __syncthreads();
#pragma unroll 1
  for (; task < num_tasks; task += kEncoderWarps) {
    const int panel = task / num_groups;
    const int first_row = task % num_groups * kTiles * kTileRows;
    const int next_task = task + kEncoderWarps;
    const WeightReader following(packed, in_dim, lane, next_task < num_tasks ? next_task / num_groups : panel, 0);
    Row rows[kTiles][2];
    set_rows(rows, x, in_dim, lane, first_row, count);
    PanelSums<kTiles> sums;
    sums.start(params, panel * kPanel + 4 * lane.t);
#pragma unroll 1
    for (int step = 0; step < num_steps; step += kAhead<kTiles>) {
      const bool is_last = step + kAhead<kTiles> >= num_steps;
      const int next_step = is_last ? 0 : step + kAhead<kTiles>;
      reader.advance(kAhead<kTiles>);
      if (is_last) reader = following;
#pragma unroll
      for (int a = 0; a < kAhead<kTiles>; ++a) {
        const WeightFactors weights(next[a]);
        if (!Row::kWhole || next_step + a < num_steps) reader.load<Row::kWhole>(next[a], a);
        if (!Row::kWhole || step + a < num_steps) sums.add_step(rows, weights, step + a);  // AnyRow: or of zeros
      }
    }
    for (int m = 0; m < kTiles && first_row + m * kTileRows < count; ++m) {
      sums.keep(warp_scratch(), lane, m);
      finish_tile(params, first_row + m * kTileRows, count, panel * kPanel, out);
    }
  }
  if (turn.is_last) __syncthreads();
}

// out.y[r] = out.residual[r] + activation(x[r] W^T + bias) for `count` rows, by all threads of a block. x may have been
// written just before; on return, every thread may read y. Not inlined, as a kernel calls it in a dozen places.
__device__ __attribute__((noinline)) inline void block_linear(const LinearParams& params, const RowsView& x, int count,
                                                              const LinearOutput& out, Turn turn = {}) {
  if (count == 0) return;
  const int num_panels = static_cast<int>(divide_up(params.out_dim, kPanel));
  const auto num_tasks = [&](int tiles) { return num_panels * static_cast<int>(divide_up(count, tiles * kTileRows)); };
  if (!are_whole_steps(x, params.in_dim)) {
    linear_tiles<AnyRow, 1>(params, x, count, out, turn);
  } else if (count <= kTileRows || num_tasks(2) < kFewestTasks) {
    linear_tiles<SharedRow, 1>(params, x, count, out, turn);
  } else if (num_tasks(4) < kFewestTasks) {
    linear_tiles<SharedRow, 2>(params, x, count, out, turn);
  } else {
    linear_tiles<SharedRow, 4>(params, x, count, out, turn);
  }
}

}  // namespace lsif::cuda
