// Files are read with C functions: if liblsif.so links one C++ library and torch brings another, a stream of one may
// meet the locale of the other, and reading a number crashes.
#include "engine/cpu_quota.h"

#include <algorithm>
#include <cstdio>
#include <limits>

namespace lsif::engine {
namespace {

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

// The contents of a file; "" if it cannot be read.
std::string text_of(const std::string& path) {
  std::string text;
  std::FILE* file = std::fopen(path.c_str(), "r");
  if (file == nullptr) return text;
  char buffer[4096];
  for (size_t size; (size = std::fread(buffer, 1, sizeof(buffer), file)) > 0;) text.append(buffer, size);
  std::fclose(file);
  return text;
}

// Parses "quota period", in any unit; -1 or "max" means no quota.
double quota_from(const std::string& text) {
  double quota = 0;
  double period = 0;
  const bool is_read = std::sscanf(text.c_str(), "%lf %lf", &quota, &period) == 2;
  return is_read && quota > 0 && period > 0 ? quota / period : kNoQuota;
}

double read_v2(const std::string& directory) { return quota_from(text_of(directory + "/cpu.max")); }

double read_v1(const std::string& directory) {
  return quota_from(text_of(directory + "/cpu.cfs_quota_us") + " " + text_of(directory + "/cpu.cfs_period_us"));
}

// The smallest quota from `path` up to the root of the hierarchy mounted at `root`.
double smallest_quota(const std::string& root, std::string path, double (*read)(const std::string& directory)) {
  double quota = read(root);
  while (path.size() > 1) {
    quota = std::min(quota, read(root + path));
    path.resize(path.rfind('/'));
  }
  return quota;
}

// The quota for a line "number:controllers:path"; cgroup v2 lists no controllers.
double quota_of(const std::string& line, const std::string& hierarchies) {
  const size_t first = line.find(':');
  const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
  if (second == std::string::npos || line.compare(second, 2, ":/") != 0) return kNoQuota;
  const std::string controllers = line.substr(first + 1, second - first - 1);
  const std::string path = line.substr(second + 1);
  if (controllers.empty()) return smallest_quota(hierarchies, path, read_v2);
  if (("," + controllers + ",").find(",cpu,") == std::string::npos) return kNoQuota;
  return std::min(smallest_quota(hierarchies + "/" + controllers, path, read_v1),
                  smallest_quota(hierarchies + "/cpu", path, read_v1));
}

}  // namespace

double cpu_quota(const std::string& memberships, const std::string& hierarchies) {
  const std::string lines = text_of(memberships);
  double quota = kNoQuota;
  for (size_t begin = 0, end; begin < lines.size(); begin = end + 1) {
    end = std::min(lines.find('\n', begin), lines.size());
    quota = std::min(quota, quota_of(lines.substr(begin, end - begin), hierarchies));
  }
  return quota;
}

}  // namespace lsif::engine
