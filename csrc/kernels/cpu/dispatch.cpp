#include "kernels/cpu/dispatch.h"

#include <cstdlib>
#include <stdexcept>

namespace lsif::cpu {
namespace {

// For each instruction set: whether this machine runs it, and the reason given if it is the best that does.
bool runs_scalar() { return true; }
constexpr char kWhy_scalar[] =
    "this CPU has neither AVX2 with FMA nor AVX-512 with VNNI, or this build leaves them out";
#if defined(__x86_64__)
// The compiler's run-time check also asks the operating system whether it saves the wide registers.
bool runs_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
constexpr char kWhy_avx2[] = "this CPU has AVX2 and FMA, but neither AVX-VNNI nor all of AVX-512 F/BW/DQ/VL and VNNI";
#if defined(LSIF_HAVE_AVX2VNNI)
bool runs_avx2vnni() { return runs_avx2() && __builtin_cpu_supports("avxvnni"); }
constexpr char kWhy_avx2vnni[] = "this CPU has AVX2, FMA and AVX-VNNI, but not all of AVX-512 F/BW/DQ/VL and VNNI";
#endif
bool runs_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
constexpr char kWhy_avx512[] = "this CPU has AVX-512 F/BW/DQ/VL and VNNI";
bool runs_avx512bf16() { return runs_avx512() && __builtin_cpu_supports("avx512bf16"); }
constexpr char kWhy_avx512bf16[] = "this CPU has AVX-512 F/BW/DQ/VL, VNNI and BF16";
#else
bool runs_neon() { return true; }
constexpr char kWhy_neon[] = "this is an AArch64 CPU";
#endif

struct Isa {
  const KernelTable& (*kernels)();
  bool (*runs)();
  const char* why;
};

#define LSIF_ISA_FACTS(name) {&name##_kernels, &runs_##name, kWhy_##name},
constexpr Isa kIsas[] = {LSIF_ISAS(LSIF_ISA_FACTS)};
#undef LSIF_ISA_FACTS

std::vector<const KernelTable*> find_runnable() {
  std::vector<const KernelTable*> tables;
  for (const Isa& isa : kIsas) {
    if (isa.runs()) tables.insert(tables.begin(), &isa.kernels());
  }
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
  if (!wanted_isa().empty()) return "LSIF_CPU_ISA=" + wanted_isa() + " asks for it";
  for (const Isa& isa : kIsas) {
    if (&isa.kernels() == &kernels()) return isa.why;
  }
  return "";
}

}  // namespace lsif::cpu
