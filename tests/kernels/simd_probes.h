// The probes for all kernel tables that tests compare with their oracles. CMakeLists.txt says which tests are linked
// with them.
#pragma once

#include <string>
#include <vector>

#include "simd_probe.h"
#include "tables.h"

namespace lsif::cpu {

// The probes of the instruction sets this machine can run.
inline std::vector<const SimdProbe*> probes() {
#define LSIF_PROBE(name) &name##_simd_probe(),
  std::vector<const SimdProbe*> built = {LSIF_ISAS(LSIF_PROBE)};
#undef LSIF_PROBE
#if defined(LSIF_TEST_AVX2VNNI_EVEX)
  built.push_back(&avx2vnni_evex_simd_probe());
#endif
#if defined(LSIF_EMULATE_AVX512)
  built.push_back(&avx512emu_simd_probe());
#endif
  std::vector<const SimdProbe*> runnable;
  for (const SimdProbe* probe : built) {
    for (const KernelTable* table : tested_kernels()) {
      if (std::string(table->isa) == probe->isa) runnable.push_back(probe);
    }
  }
  return runnable;
}

}  // namespace lsif::cpu
