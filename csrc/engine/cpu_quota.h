// How much CPU time the cgroup of this process may use.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

namespace lsif::engine {

// The quota in CPUs; infinity if there is none. `memberships`: a file like /proc/self/cgroup; `hierarchies`: where
// cgroups are mounted. The smallest quota of the cgroup and its ancestors counts; files that cannot be read are
// ignored.
double cpu_quota(const std::string& memberships = "/proc/self/cgroup",
                 const std::string& hierarchies = "/sys/fs/cgroup");

// Number of threads that can use this quota, if the process may run on `processors` processors.
inline int threads_within(double quota, int processors) {
  return quota < processors ? std::max(1, static_cast<int>(std::ceil(quota))) : processors;
}

}  // namespace lsif::engine
