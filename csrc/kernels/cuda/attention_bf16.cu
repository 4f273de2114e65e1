#include "kernels/cuda/attention_bf16.h"
#include "kernels/cuda/attention_bias.cuh"
#include "kernels/cuda/mma.cuh"

namespace lsif::cuda {
namespace {

constexpr int kRows = 16;  // queries per tile, and keys per chunk
constexpr float kLowest = -__builtin_inff();

// Tiles of all sequences. Each begins a multiple of kRows rows after its sequence's first, so that a row's result
// depends only on its sequence. Sequence b's tiles begin at offsets[b] / kRows + b, after all those of the previous
// sequence.
struct Tiles {
  const int64_t* offsets;
  int64_t batch;

  __device__ int64_t first_of(int64_t sequence) const { return offsets[sequence] / kRows + sequence; }

  __device__ int64_t sequence_of(int64_t tile) const {
    return partition_point(batch, [&](int64_t b) { return first_of(b) <= tile; }) - 1;
  }
};

// kDim >= head_dim columns: a thread's fragment of 16 rows of them, in the layout of the matrix instruction (mma.cuh).
template <int kDim>
struct Tile {
  const AttentionParams& params;
  const AttentionInput& input;
  int64_t begin;  // of the sequence; rows below are absolute
  int64_t end;
  int64_t first_row;
  int64_t head;
  int g;
  int t;
  MmaBf16A q[kDim / 16];
  MmaFloatC sums[kDim / 8];  // columns 8 n .. 8 n + 7
  float top[2];              // of rows g and g + 8, like totals
  float totals[2];           // over this thread's keys

  __device__ int64_t row(int i) const { return first_row + g + 8 * i; }

  // Columns c and c + 1 of a head in row r; 0 past head_dim and outside the sequence.
  __device__ uint32_t pair(const float* rows, int64_t stride, int64_t r, int64_t column, int c) const {
    if (r < begin || r >= end) return 0;
    const float* x = rows + r * stride + column + c;
    return bf16_pair(c < params.head_dim ? x[0] : 0.0f, c + 1 < params.head_dim ? x[1] : 0.0f);
  }

  __device__ void load_queries() {
    const int64_t column = head * params.head_dim;
    for (int k = 0; k < kDim / 16; ++k) {
      for (int i = 0; i < 4; ++i) {
        q[k].regs[i] = pair(input.q, input.q_stride, row(i % 2), column, 16 * k + 2 * t + 8 * (i / 2));
      }
    }
  }

  // Logits of keys first .. first + 15 for the tile's rows, in two halves.
  __device__ void find_logits(int64_t first, MmaFloatC (&logits)[2]) const {
    const float scale = 1.0f / sqrtf(static_cast<float>(params.head_dim));
    for (int n = 0; n < 2; ++n) {
      logits[n] = {};
      for (int k = 0; k < kDim / 16; ++k) {
        if (16 * k >= params.head_dim) break;
        MmaBf16B keys;
        for (int i = 0; i < 2; ++i) {
          keys.regs[i] =
              pair(input.k, input.stride, first + 8 * n + g, params.key_column(head), 16 * k + 2 * t + 8 * i);
        }
        multiply_add(logits[n], q[k], keys);
      }
      for (int i = 0; i < 4; ++i) {
        const int64_t r = row(i / 2);
        const int64_t key = first + 8 * n + 2 * t + i % 2;
        const bool is_used = r < end && key >= begin && key <= r && r - key < params.window;
        logits[n].regs[i] = is_used ? fmaf(logits[n].regs[i], scale, bias_of(params, input, head, r, key)) : kLowest;
      }
    }
  }

  // Replaces logits by exponentials relative to a running maximum, and rescales all earlier sums to it.
  __device__ void exponentiate(MmaFloatC (&logits)[2]) {
    for (int i = 0; i < 2; ++i) {
      float highest = top[i];
      for (int n = 0; n < 2; ++n) highest = fmaxf(highest, fmaxf(logits[n].regs[2 * i], logits[n].regs[2 * i + 1]));
      for (int mask = 1; mask < 4; mask *= 2) highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, mask));
      // If all logits so far are -inf: any finite reference gives weights 0, while -inf would give NaN.
      const float reference = highest == kLowest ? 0.0f : highest;
      const float shrink = expf(top[i] - reference);
      top[i] = highest;
      totals[i] *= shrink;
      for (int n = 0; n < kDim / 8; ++n) {
        sums[n].regs[2 * i] *= shrink;
        sums[n].regs[2 * i + 1] *= shrink;
      }
      for (int n = 0; n < 2; ++n) {
        for (int j = 2 * i; j < 2 * i + 2; ++j) {
          logits[n].regs[j] = expf(logits[n].regs[j] - reference);
          totals[i] += logits[n].regs[j];
        }
      }
    }
  }

  // sums += weights V for keys first .. first + 15.
  __device__ void add_values(int64_t first, const MmaFloatC (&weights)[2]) {
    MmaBf16A a;
    for (int i = 0; i < 4; ++i) {
      const float* of_half = weights[i / 2].regs + 2 * (i % 2);
      a.regs[i] = bf16_pair(of_half[0], of_half[1]);
    }
    for (int n = 0; n < kDim / 8; ++n) {
      if (8 * n >= params.head_dim) break;
      const int64_t column = params.key_column(head) + 8 * n + g;
      const auto value = [&](int64_t key) {
        const bool is_there = key >= begin && key < end && 8 * n + g < params.head_dim;
        return is_there ? input.v[key * input.stride + column] : 0.0f;
      };
      MmaBf16B values;
      for (int i = 0; i < 2; ++i) {
        const int64_t key = first + 2 * t + 8 * i;
        values.regs[i] = bf16_pair(value(key), value(key + 1));
      }
      multiply_add(sums[n], a, values);
    }
  }

  __device__ void store(float* y, int64_t y_stride) {
    for (int i = 0; i < 2; ++i) {
      float divisor = static_cast<float>(params.window);
      if (params.kind == AttentionKind::kSoftmax) {
        divisor = totals[i];
        for (int mask = 1; mask < 4; mask *= 2) divisor += __shfl_xor_sync(0xffffffffu, divisor, mask);
      }
      if (row(i) >= end) continue;
      for (int n = 0; n < kDim / 8; ++n) {
        for (int c = 8 * n + 2 * t; c < min(8 * n + 2 * t + 2, static_cast<int>(params.head_dim)); ++c) {
          y[row(i) * y_stride + head * params.head_dim + c] = weighted_mean(sums[n].regs[2 * i + c % 2], divisor);
        }
      }
    }
  }
};

// A warp per tile and head.
template <int kDim>
__global__ void __launch_bounds__(kThreads)
    attention_bf16_kernel(const __grid_constant__ AttentionParams params, const __grid_constant__ AttentionInput input,
                          Tiles tiles, int64_t num_tiles, float* y, int64_t y_stride) {
  const int64_t task = global_thread() / kWarp;
  const int64_t slot = task / params.num_heads;
  if (slot >= num_tiles) return;
  const int64_t sequence = tiles.sequence_of(slot);
  const int64_t begin = tiles.offsets[sequence];
  const int64_t end = tiles.offsets[sequence + 1];
  const int64_t first_row = begin + (slot - tiles.first_of(sequence)) * kRows;
  if (first_row >= end) return;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  Tile<kDim> tile = {params,   input,    begin, end, first_row,          task % params.num_heads,
                     lane / 4, lane % 4, {},    {},  {kLowest, kLowest}, {}};
  tile.load_queries();
  const int64_t last_row = first_row + kRows < end ? first_row + kRows - 1 : end - 1;
  const int64_t reached = first_row - params.window + 1;
  for (int64_t key = reached > begin ? reached : begin; key <= last_row; key += kRows) {
    MmaFloatC weights[2];
    tile.find_logits(key, weights);
    if (params.kind == AttentionKind::kSoftmax) {
      tile.exponentiate(weights);
    } else {
      for (int n = 0; n < 2; ++n) {
        for (float& weight : weights[n].regs) weight = weight == kLowest ? 0.0f : silu(weight);
      }
    }
    tile.add_values(key, weights);
  }
  tile.store(y, y_stride);
}

}  // namespace

cudaError_t attention_bf16(const AttentionParams& params, const AttentionInput& input, const int64_t* offsets,
                           int64_t batch, float* y, int64_t y_stride, cudaStream_t stream) {
  if (params.head_dim > kMostBf16HeadDim) return cudaErrorInvalidValue;
  const auto kernel = params.head_dim <= 32   ? attention_bf16_kernel<32>
                      : params.head_dim <= 64 ? attention_bf16_kernel<64>
                                              : attention_bf16_kernel<128>;
  const int64_t num_tiles = input.seq_len / kRows + batch;
  const int64_t blocks = input.seq_len == 0 ? 0 : divide_up(num_tiles * params.num_heads, kThreads / kWarp);
  return launch(kernel, blocks, kThreads, stream, params, input, Tiles{offsets, batch}, num_tiles, y, y_stride);
}

}  // namespace lsif::cuda
