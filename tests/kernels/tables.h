// All kernel tables that tests compare with their oracles: the runnable ones and, if built, the emulated AVX-512 one
// and the AVX-VNNI one in AVX-512's encoding. Other executables of the same tests have only the CUDA kernels' table
// (tests/cuda/).
#pragma once

#include <cstring>
#include <vector>

#include "kernels/cpu/dispatch.h"
#include "oracle.h"

namespace lsif::cpu {

inline bool is_cuda(const KernelTable& table) { return std::strncmp(table.isa, "cuda", 4) == 0; }

// The encoder in one launch does not support bfloat16. Its linear layers use TF32.
inline bool has_bf16(const KernelTable& table) { return std::strcmp(table.isa, "cuda_encoder") != 0; }

inline oracle::Sums sums_of(const KernelTable& table) {
  return has_bf16(table) ? oracle::Sums::kFloat : oracle::Sums::kTf32;
}

#if defined(LSIF_EMULATE_AVX512)
const KernelTable& avx512emu_kernels();
#endif

#if defined(LSIF_TEST_AVX2VNNI_EVEX)
const KernelTable& avx2vnni_evex_kernels();
#endif

#if defined(LSIF_TEST_CUDA)
const KernelTable& cuda_kernels();
const KernelTable& cuda_encoder_kernels();  // the parts of encode_users.cu

inline std::vector<const KernelTable*> tested_kernels() {
#if defined(LSIF_TEST_CUDA_ENCODER)
  return {&cuda_kernels(), &cuda_encoder_kernels()};
#else
  return {&cuda_kernels()};
#endif
}
#else
inline std::vector<const KernelTable*> tested_kernels() {
  std::vector<const KernelTable*> tables = runnable_kernels();
#if defined(LSIF_EMULATE_AVX512)
  tables.push_back(&avx512emu_kernels());
#endif
#if defined(LSIF_TEST_AVX2VNNI_EVEX)
  const bool has_evex = __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  if (has_evex && __builtin_cpu_supports("fma")) tables.push_back(&avx2vnni_evex_kernels());
#endif
  return tables;
}
#endif

}  // namespace lsif::cpu
