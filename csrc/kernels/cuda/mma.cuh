// Matrix instructions (PTX ISA, from sm_80 on): score_topk's mma.m16n8k32, integer codes of 16 rows times those of 8
// queries, 32 dimensions at a time; mma.m16n8k16 of bfloat16, for attention_bf16.cu and linear_bf16.cu; and mma.m16n8k8
// of TF32, which has 11 bits, for encoder_linear.cuh.
#pragma once

#include "kernels/cuda/device.cuh"

namespace lsif::cuda {

// What one thread holds, with g = lane / 4 and t = lane % 4; bytes of a register are four neighbours k:
//   a: uint8 A[16][32] = rows g, g + 8, g, g + 8 at k = 4 t, 4 t, 4 t + 16, 4 t + 16
//   b: int8  B[32][8]  = column g at k = 4 t, 4 t + 16
//   c: int32 C[16][8]  = (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1)
struct MmaA {
  uint32_t regs[4];
};

struct MmaB {
  uint32_t regs[2];
};

struct MmaC {
  int32_t regs[4];
};

// A pair of neighbours k in each register, the first in its lower half; float32 sums:
//   a: bfloat16 A[16][16] = rows g, g + 8, g, g + 8 at k = 2 t, 2 t, 2 t + 8, 2 t + 8
//   b: bfloat16 B[16][8]  = column g at k = 2 t, 2 t + 8
//   c: float32 C[16][8]   = (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1)
// So two c, of columns 0 .. 7 and 8 .. 15, are laid out as an a.
struct MmaBf16A {
  uint32_t regs[4];
};

struct MmaBf16B {
  uint32_t regs[2];
};

struct MmaFloatC {
  float regs[4];
};

// TF32 of a register is its upper 19 bits: the instruction takes no notice of the other 13.
//   a: A[16][8]  = (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)
//   b: B[8][8]   = column g at k = t, t + 4
//   c: as above
struct MmaTf32A {
  uint32_t regs[4];
};

struct MmaTf32B {
  uint32_t regs[2];
};

// x = high + low exactly, and high is x to 11 bits, to the nearest. low has 12 bits and a sign, of which TF32 drops the
// last: at most 2^-23 |x|. For |x| < 2^127.
struct SplitFloat {
  uint32_t high;
  uint32_t low;
};

__device__ inline SplitFloat split_to_tf32(float x) {
  const uint32_t high = (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
  return {high, __float_as_uint(x - __uint_as_float(high))};
}

}  // namespace lsif::cuda

#if defined(LSIF_CUDA_EMULATED)
#include "mma_emulated.h"  // of tests/cuda_emulation/: the same functions
#else

namespace lsif::cuda {

// c + A B, by all threads of a warp together.
__device__ inline MmaC multiply_add(const MmaC& c, const MmaA& a, const MmaB& b) {
  MmaC sums;
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
      : "=r"(sums.regs[0]), "=r"(sums.regs[1]), "=r"(sums.regs[2]), "=r"(sums.regs[3])
      : "r"(a.regs[0]), "r"(a.regs[1]), "r"(a.regs[2]), "r"(a.regs[3]), "r"(b.regs[0]), "r"(b.regs[1]), "r"(c.regs[0]),
        "r"(c.regs[1]), "r"(c.regs[2]), "r"(c.regs[3]));
  return sums;
}

// Computed here and kept: a compiler short of registers would rather compute it again wherever it is used.
__device__ inline MmaA computed(MmaA a) {
  asm volatile("" : "+r"(a.regs[0]), "+r"(a.regs[1]), "+r"(a.regs[2]), "+r"(a.regs[3]));
  return a;
}

// Rounded to the nearest, ties to even.
__device__ inline uint32_t bf16_pair(float first, float second) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// c += A B, by all threads of a warp together.
__device__ inline void multiply_add(MmaFloatC& c, const MmaBf16A& a, const MmaBf16B& b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.regs[0]), "+f"(c.regs[1]), "+f"(c.regs[2]), "+f"(c.regs[3])
      : "r"(a.regs[0]), "r"(a.regs[1]), "r"(a.regs[2]), "r"(a.regs[3]), "r"(b.regs[0]), "r"(b.regs[1]));
}

__device__ inline void multiply_add(MmaFloatC& c, const MmaTf32A& a, const MmaTf32B& b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.regs[0]), "+f"(c.regs[1]), "+f"(c.regs[2]), "+f"(c.regs[3])
      : "r"(a.regs[0]), "r"(a.regs[1]), "r"(a.regs[2]), "r"(a.regs[3]), "r"(b.regs[0]), "r"(b.regs[1]));
}

}  // namespace lsif::cuda

#endif
