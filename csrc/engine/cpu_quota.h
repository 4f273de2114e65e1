// How much CPU time the cgroup of this process may use.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

namespace lsif::engine {

// In CPUs; infinity where there is no quota. `memberships`: a file like /proc/self/cgroup; `hierarchies`: where cgroups
// are mounted. Of a cgroup and those it is in, the smallest quota counts; what cannot be read says nothing.
double cpu_quota(const std::string& memberships = "/proc/self/cgroup",
                 const std::string& hierarchies = "/sys/fs/cgroup");

// Threads that make use of such a quota, of so many processors the process may run on.
inline int threads_within(double quota, int processors) {
  return quota < processors ? std::max(1, static_cast<int>(std::ceil(quota))) : processors;
}

}  // namespace lsif::engine
