// The matrix instruction score_topk is made of: integer codes of 16 rows times those of 8 queries, 32 dimensions at a
// time (PTX ISA, mma.m16n8k32, from sm_80 on).
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

// c += A B, by all threads of a warp together.
__device__ inline void multiply_add(MmaC& c, const MmaA& a, const MmaB& b) {
#if defined(LSIF_CUDA_EMULATED)
  struct Factors {
    MmaA a;
    MmaB b;
  };
  const auto lanes = ::emulated::Block::get().exchange(Factors{a, b}, __FILE__, __LINE__);
  const int g = static_cast<int>(threadIdx.x) % kWarp / 4;
  const int t = static_cast<int>(threadIdx.x) % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = g + 8 * (i / 2);
    const int column = 2 * t + i % 2;
    for (int k = 0; k < 32; ++k) {
      const int a_register = 2 * (k / 16) + row / 8;
      const uint32_t a_bytes = lanes[row % 8 * 4 + k % 16 / 4].a.regs[a_register];
      const uint32_t b_bytes = lanes[column * 4 + k % 16 / 4].b.regs[k / 16];
      c.regs[i] += static_cast<int>(a_bytes >> 8 * (k % 4) & 0xffu) * static_cast<int8_t>(b_bytes >> 8 * (k % 4));
    }
  }
#else
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c.regs[0]), "+r"(c.regs[1]), "+r"(c.regs[2]), "+r"(c.regs[3])
      : "r"(a.regs[0]), "r"(a.regs[1]), "r"(a.regs[2]), "r"(a.regs[3]), "r"(b.regs[0]), "r"(b.regs[1]));
#endif
}

}  // namespace lsif::cuda
