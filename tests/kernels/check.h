// A tiny test harness: TEST(name) { CHECK(condition); CHECK_MESSAGE(condition, message);
// CHECK_NEAR(actual, expected, tolerance); CHECK_THROWS(expression, text); }
//
// Every test_*.cpp is one executable, with main() from here. A failed check is counted and reported, and the test goes
// on. The program's arguments, if any, select tests by a substring of their name. Exit status: 0 if all checks held,
// else 1.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*body)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

inline int64_t num_checks = 0;
inline int64_t num_failures = 0;  // of the running test

inline bool add_test(const char* name, void (*body)()) {
  tests().push_back({name, body});
  return true;
}

inline void fail(const char* file, int line, const std::string& message) {
  constexpr int64_t kMaxReports = 10;
  if (num_failures++ < kMaxReports) std::printf("%s:%d: %s\n", file, line, message.c_str());
}

inline void expect(bool held, const char* file, int line, const char* text) {
  ++num_checks;
  if (!held) fail(file, line, std::string("CHECK(") + text + ") failed");
}

// For many similar checks: the message says which one failed.
inline void expect(bool held, const char* file, int line, const std::string& message) {
  ++num_checks;
  if (!held) fail(file, line, message);
}

inline void expect_near(double actual, double expected, double tolerance, const char* file, int line,
                        const char* text) {
  ++num_checks;
  // Written such that NaN fails and equal infinities pass.
  if (actual == expected || std::fabs(actual - expected) <= tolerance) return;
  std::ostringstream message;
  message.precision(17);
  message << text << ": expected " << expected << " within " << tolerance << ", got " << actual;
  fail(file, line, message.str());
}

template <typename Body>
void expect_throws(Body body, const std::string& part, const char* file, int line, const char* text) {
  ++num_checks;
  try {
    body();
  } catch (const std::invalid_argument& error) {
    if (std::strstr(error.what(), part.c_str()) != nullptr) return;
    return fail(file, line, std::string(text) + ": expected a message with '" + part + "', got '" + error.what() + "'");
  }
  fail(file, line, std::string(text) + ": expected std::invalid_argument, nothing was thrown");
}

inline bool selected(const char* name, int argc, char** argv) {
  if (argc < 2) return true;
  for (int i = 1; i < argc; ++i) {
    if (std::strstr(name, argv[i]) != nullptr) return true;
  }
  return false;
}

inline int run_all(int argc, char** argv) {
  int num_run = 0;
  int num_failed = 0;
  for (const Test& test : tests()) {
    if (!selected(test.name, argc, argv)) continue;
    num_failures = 0;
    ++num_run;
    try {
      test.body();
    } catch (const std::exception& error) {
      fail(test.name, 0, std::string("exception: ") + error.what());
    }
    std::printf("%-6s %s\n", num_failures == 0 ? "ok" : "FAILED", test.name);
    std::fflush(stdout);
    num_failed += num_failures != 0;
  }
  std::printf("%d tests, %d failed, %lld checks\n", num_run, num_failed, static_cast<long long>(num_checks));
  return num_failed == 0 && num_run > 0 ? 0 : 1;
}

}  // namespace check

#define CHECK(condition) ::check::expect(static_cast<bool>(condition), __FILE__, __LINE__, #condition)
#define CHECK_MESSAGE(condition, message) \
  ::check::expect(static_cast<bool>(condition), __FILE__, __LINE__, std::string(message))
#define CHECK_NEAR(actual, expected, tolerance) \
  ::check::expect_near(actual, expected, tolerance, __FILE__, __LINE__, #actual)
// Checks that the expression throws std::invalid_argument with `part` in its message.
#define CHECK_THROWS(expression, part) \
  ::check::expect_throws([&] { (void)(expression); }, part, __FILE__, __LINE__, #expression)
#define TEST(name)                                                                         \
  static void test_##name();                                                               \
  [[maybe_unused]] static const bool added_##name = ::check::add_test(#name, test_##name); \
  static void test_##name()

int main(int argc, char** argv) { return ::check::run_all(argc, argv); }
