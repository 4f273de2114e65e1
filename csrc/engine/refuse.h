// How invalid arguments are reported; Python turns the exception into an ArgumentError
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace lsif::engine {

inline void require(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument(message);
}

[[noreturn]] inline void refuse(const std::string& argument, const std::string& expected, const std::string& got) {
  throw std::invalid_argument(argument + ": expected " + expected + ", got " + got);
}

// Throws unless all of values[0 .. count - 1] are in [0, end).
inline void check_rows(const char* argument, const int64_t* values, int64_t count, int64_t end) {
  for (int64_t i = 0; i < count; ++i) {
    if (values[i] >= 0 && values[i] < end) continue;
    refuse(argument, "values in [0, " + std::to_string(end - 1) + "]",
           std::to_string(values[i]) + " at position " + std::to_string(i));
  }
}

}  // namespace lsif::engine
