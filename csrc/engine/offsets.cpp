#include "engine/offsets.h"

#include <string>

#include "engine/refuse.h"

namespace lsif::engine {

void check_offsets(const char* argument, const int64_t* offsets, int64_t batch, int64_t total) {
  const auto refuse = [argument](const std::string& expected, const std::string& got) {
    engine::refuse(argument, expected, got);
  };
  if (offsets[0] != 0) refuse("a first value of 0", std::to_string(offsets[0]));
  for (int64_t b = 0; b < batch; ++b) {
    if (offsets[b + 1] < offsets[b]) refuse("non-decreasing values", "a decrease at position " + std::to_string(b + 1));
  }
  if (offsets[batch] != total) {
    refuse("a last value of " + std::to_string(total) + " (the number of rows)", std::to_string(offsets[batch]));
  }
}

}  // namespace lsif::engine
