// How arguments are refused; Python makes an ArgumentError of it
#pragma once

#include <stdexcept>
#include <string>

namespace lsif::engine {

inline void require(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument(message);
}

[[noreturn]] inline void refuse(const std::string& argument, const std::string& expected, const std::string& got) {
  throw std::invalid_argument(argument + ": expected " + expected + ", got " + got);
}

}  // namespace lsif::engine
