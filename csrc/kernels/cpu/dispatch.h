// Which kernels this process uses.
#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/table.h"

namespace lsif::cpu {

// The tables this build has AND this machine can run, best first; scalar is always the last.
const std::vector<const KernelTable*>& runnable_kernels();

// The table in use: the best runnable one, or the one LSIF_CPU_ISA names. Chosen once, at the first call. Throws
// std::runtime_error if LSIF_CPU_ISA does not name a runnable one; the message lists them.
const KernelTable& kernels();

// Why kernels() was chosen, in one sentence.
std::string kernels_reason();

}  // namespace lsif::cpu
