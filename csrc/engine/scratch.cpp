#include "engine/scratch.h"

namespace lsif::engine {

Scratch::Arena& Scratch::thread_arena() {
  thread_local Arena arena;
  return arena;
}

}  // namespace lsif::engine
