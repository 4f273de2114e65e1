#include "kernels/cpu/dispatch.h"

#include <cstdlib>
#include <stdexcept>

namespace lsif::cpu {
namespace {

#if defined(__x86_64__)
// The compiler's run-time check also asks the operating system whether it saves the wide registers.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#if defined(LSIF_HAVE_AVX2VNNI)
bool has_avx2vnni() { return has_avx2() && __builtin_cpu_supports("avxvnni"); }
#endif
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
bool has_avx512bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#endif

std::vector<const KernelTable*> find_runnable() {
  std::vector<const KernelTable*> tables;
#if defined(LSIF_HAVE_AVX512BF16)
  if (has_avx512bf16()) tables.push_back(&avx512bf16_kernels());
#endif
#if defined(LSIF_HAVE_AVX512)
  if (has_avx512()) tables.push_back(&avx512_kernels());
#endif
#if defined(LSIF_HAVE_AVX2VNNI)
  if (has_avx2vnni()) tables.push_back(&avx2vnni_kernels());
#endif
#if defined(LSIF_HAVE_AVX2)
  if (has_avx2()) tables.push_back(&avx2_kernels());
#endif
#if defined(LSIF_HAVE_NEON)
  tables.push_back(&neon_kernels());
#endif
  tables.push_back(&scalar_kernels());
  return tables;
}

std::string wanted_isa() {
  const char* value = std::getenv("LSIF_CPU_ISA");
  return value == nullptr ? "" : value;
}

const KernelTable& pick(const std::string& wanted) {
  if (wanted.empty()) return *runnable_kernels().front();
  std::string names;
  for (const KernelTable* table : runnable_kernels()) {
    if (wanted == table->isa) return *table;
    names += std::string(names.empty() ? "" : ", ") + table->isa;
  }
  throw std::runtime_error("LSIF_CPU_ISA: expected one of " + names + " on this machine, got '" + wanted + "'");
}

}  // namespace

const std::vector<const KernelTable*>& runnable_kernels() {
  static const std::vector<const KernelTable*> tables = find_runnable();
  return tables;
}

const KernelTable& kernels() {
  static const KernelTable& table = pick(wanted_isa());
  return table;
}

std::string kernels_reason() {
  const std::string isa = kernels().isa;
  if (!wanted_isa().empty()) return "LSIF_CPU_ISA=" + wanted_isa() + " asks for it";
  if (isa == "avx512bf16") return "this CPU has AVX-512 F/BW/DQ/VL, VNNI and BF16";
  if (isa == "avx512") return "this CPU has AVX-512 F/BW/DQ/VL and VNNI";
  if (isa == "avx2vnni") return "this CPU has AVX2, FMA and AVX-VNNI, but not all of AVX-512 F/BW/DQ/VL and VNNI";
  if (isa == "avx2") return "this CPU has AVX2 and FMA, but neither AVX-VNNI nor all of AVX-512 F/BW/DQ/VL and VNNI";
  if (isa == "neon") return "this is an AArch64 CPU";
  return "this CPU has neither AVX2 with FMA nor AVX-512 with VNNI, or this build leaves them out";
}

}  // namespace lsif::cpu
