// All kernel tables a test must hold against its oracle: the runnable ones and, where built, the emulated AVX-512 one.
#pragma once

#include <cstring>
#include <vector>

#include "kernels/cpu/dispatch.h"

namespace lsif::cpu {

// The CUDA kernels, which may be among the tables, have float32 alone.
inline bool has_bf16(const KernelTable& table) { return std::strncmp(table.isa, "cuda", 4) != 0; }

#if defined(LSIF_EMULATE_AVX512)
const KernelTable& avx512emu_kernels();
#endif

inline std::vector<const KernelTable*> tested_kernels() {
  std::vector<const KernelTable*> tables = runnable_kernels();
#if defined(LSIF_EMULATE_AVX512)
  tables.push_back(&avx512emu_kernels());
#endif
  return tables;
}

}  // namespace lsif::cpu
