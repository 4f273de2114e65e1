// Artificial cgroup hierarchies, in files.
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>

#include "check.h"
#include "engine/cpu_quota.h"

namespace {

class Cgroups {
 public:
  explicit Cgroups(const std::string& memberships)
      : root_(std::filesystem::temp_directory_path() / ("lsif_cgroups_" + std::to_string(getpid()))) {
    std::filesystem::remove_all(root_);
    write("memberships", memberships);
  }
  ~Cgroups() { std::filesystem::remove_all(root_); }

  void write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = root_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::FILE* file = std::fopen(path.c_str(), "w");
    std::fputs(text.c_str(), file);
    std::fclose(file);
  }

  double quota() const { return lsif::engine::cpu_quota(root_ / "memberships", root_); }

 private:
  std::filesystem::path root_;
};

TEST(version_2) {
  const Cgroups groups("0::/kubepods/pod/container\n");
  CHECK(std::isinf(groups.quota()));
  groups.write("kubepods/pod/container/cpu.max", "max 100000\n");
  CHECK(std::isinf(groups.quota()));
  groups.write("kubepods/pod/cpu.max", "250000 100000\n");
  CHECK(groups.quota() == 2.5);
  groups.write("kubepods/pod/container/cpu.max", "150000 100000\n");
  CHECK(groups.quota() == 1.5);
  groups.write("cpu.max", "50000 100000\n");
  CHECK(groups.quota() == 0.5);
}

TEST(version_1) {
  const Cgroups groups("5:memory:/other\n4:cpu,cpuacct:/docker/a\n0::/\n");
  groups.write("cpu,cpuacct/docker/a/cpu.cfs_quota_us", "-1\n");
  groups.write("cpu,cpuacct/docker/a/cpu.cfs_period_us", "100000\n");
  CHECK(std::isinf(groups.quota()));
  groups.write("cpu,cpuacct/docker/a/cpu.cfs_quota_us", "300000\n");
  CHECK(groups.quota() == 3);
  groups.write("cpu/docker/cpu.cfs_quota_us", "200000\n");
  CHECK(groups.quota() == 3);  // a quota without a period
  groups.write("cpu/docker/cpu.cfs_period_us", "100000\n");
  CHECK(groups.quota() == 2);
  groups.write("memory/other/cpu.cfs_quota_us", "100000\n");
  groups.write("memory/other/cpu.cfs_period_us", "100000\n");
  CHECK(groups.quota() == 2);
}

TEST(long_lines_and_a_last_one_without_an_end) {
  const std::string path = "/" + std::string(200, 'a') + "/" + std::string(200, 'b');
  std::string others;
  for (int i = 0; i < 20; ++i) others += std::to_string(i) + ":name=" + std::string(300, 'c') + ":/" + "\n";
  const Cgroups groups(others + "0::" + path);
  groups.write(path.substr(1) + "/cpu.max", "700000 100000");
  CHECK(groups.quota() == 7);
}

TEST(what_is_no_membership_or_no_quota_says_nothing) {
  for (const char* memberships : {"", "\n\n", "0", "0:", "0::", "0::relative\n", ":::\n", "0:cpuset:/\n"}) {
    const Cgroups groups(memberships);
    groups.write("cpu.max", "100000 100000\n");
    CHECK(std::isinf(groups.quota()));
  }
  const Cgroups groups("0::/\n");
  for (const char* text : {"", "\n", "max", "100000", "0 100000", "100000 0", "-5 100000", "x y"}) {
    groups.write("cpu.max", text);
    CHECK(std::isinf(groups.quota()));
  }
  CHECK(std::isinf(lsif::engine::cpu_quota("/no/such/file", "/no/such/folder")));
}

}  // namespace
