#include "engine/versioned_memory.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "check.h"

namespace {

using lsif::engine::VersionedMemory;
using Bytes = std::vector<uint8_t>;
using Range = VersionedMemory::Range;
using Version = std::unique_ptr<VersionedMemory>;

constexpr int64_t kPage = 4096;
constexpr int64_t kMapped = VersionedMemory::kLeastMapped;

Bytes random_bytes(int64_t size, std::mt19937_64& rng) {
  Bytes bytes(static_cast<size_t>(size));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(rng());
  return bytes;
}

bool holds(const VersionedMemory& version, const Bytes& bytes) {
  return version.size() == static_cast<int64_t>(bytes.size()) &&
         (bytes.empty() || std::memcmp(version.data(), bytes.data(), bytes.size()) == 0);
}

// The version that `bytes` become, which change with it.
Version changed(const VersionedMemory* before, Bytes& bytes, int64_t added, const std::vector<Range>& changing,
                std::mt19937_64& rng) {
  const auto old_size = static_cast<int64_t>(bytes.size());
  const Bytes old = bytes;
  bytes.resize(static_cast<size_t>(old_size + added));
  auto version = std::make_unique<VersionedMemory>(before == nullptr ? static_cast<const void*>(old.data()) : before->data(),
                                                   old_size, before, old_size + added, changing);
  CHECK(holds(*version, bytes));  // zeros where it grew
  for (const Range& range : changing) {
    const Bytes values = random_bytes(range.end - range.begin, rng);
    std::copy(values.begin(), values.end(), bytes.begin() + range.begin);
    std::memcpy(version->data() + range.begin, values.data(), values.size());
  }
  return version;
}

Version first_version(Bytes& bytes, std::mt19937_64& rng) { return changed(nullptr, bytes, 0, {}, rng); }

Range random_range(int64_t size, std::mt19937_64& rng) {
  const auto begin = static_cast<int64_t>(rng() % static_cast<uint64_t>(size));
  const int64_t longest = std::min<int64_t>(size - begin, 100'000);
  return {begin, begin + 1 + static_cast<int64_t>(rng() % static_cast<uint64_t>(longest))};
}

// Bytes of shared memory that nobody has given a name, of this whole machine.
int64_t shared_memory() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  int64_t kilobytes = 0;
  while (file >> word) {
    if (word == "Shmem:") file >> kilobytes;
  }
  return kilobytes << 10;
}

TEST(versions_stay_what_they_were) {
  for (const int64_t size : {int64_t{0}, int64_t{1}, kPage, kMapped - 1, kMapped, kMapped + 1, 3 * kMapped + 12'345}) {
    std::mt19937_64 rng(static_cast<uint64_t>(size));
    std::vector<Version> versions;
    std::vector<Bytes> expected;
    Bytes bytes = random_bytes(size, rng);
    versions.push_back(first_version(bytes, rng));
    expected.push_back(bytes);
    for (int i = 0; i < 12; ++i) {
      const size_t from = rng() % versions.size();  // not always the newest: a rollback
      bytes = expected[from];
      const int64_t added = i % 3 == 0 ? 0 : static_cast<int64_t>(rng() % 300'000);
      std::vector<Range> changing;
      const int64_t new_size = static_cast<int64_t>(bytes.size()) + added;
      for (uint64_t r = rng() % 4; r > 0 && new_size > 0; --r) changing.push_back(random_range(new_size, rng));
      versions.push_back(changed(versions[from].get(), bytes, added, changing, rng));
      expected.push_back(bytes);
      for (size_t v = 0; v < versions.size(); ++v) CHECK(holds(*versions[v], expected[v]));
    }
    while (!versions.empty()) {  // whichever goes first
      const auto place = static_cast<int64_t>(rng() % versions.size());
      versions.erase(versions.begin() + place);
      expected.erase(expected.begin() + place);
      for (size_t v = 0; v < versions.size(); ++v) CHECK(holds(*versions[v], expected[v]));
    }
  }
}

TEST(a_change_shares_all_but_its_pieces) {
  std::mt19937_64 rng(1);
  Bytes bytes = random_bytes(4 * kMapped, rng);
  Bytes original = bytes;
  const Version first = first_version(bytes, rng);
  if (!first->is_mapped()) return;  // it does not work here
  const int64_t count = first->num_pieces();
  CHECK(first->num_shared() == 0 && count == 4 * kMapped / first->piece_size());
  const Version second = changed(first.get(), bytes, 0, {{kMapped, kMapped + 1}}, rng);
  CHECK(second->num_shared() == count - 1 && second->num_pieces() == count);
  const Version third = changed(second.get(), bytes, 1, {}, rng);  // a piece behind the last
  CHECK(third->num_shared() == count && third->num_pieces() == count + 1);
  const Version fourth = changed(third.get(), bytes, 1, {}, rng);  // in it
  CHECK(fourth->num_shared() == count);
  CHECK(changed(first.get(), original, 0, {}, rng)->num_shared() == count);
}

// What other processes have of it may change meanwhile, by less than a tenth of this.
TEST(what_no_version_has_any_more_is_given_back) {
  std::mt19937_64 rng(2);
  const int64_t size = 16 * kMapped;
  Bytes bytes = random_bytes(size, rng);
  const int64_t before = shared_memory();
  Version version = first_version(bytes, rng);
  if (!version->is_mapped()) return;
  for (int i = 0; i < 20; ++i) {
    const std::vector<Range> all = {{0, size}};
    version = changed(version.get(), bytes, 0, i % 2 == 0 ? all : std::vector<Range>{random_range(size, rng)}, rng);
  }
  CHECK(holds(*version, bytes));
  CHECK_NEAR(static_cast<double>(shared_memory() - before), static_cast<double>(size), 0.1 * static_cast<double>(size));
  version.reset();
  CHECK_NEAR(static_cast<double>(shared_memory() - before), 0, 0.1 * static_cast<double>(size));
}

TEST(one_that_grew_far_beyond_its_pieces_gets_larger_ones) {
  std::mt19937_64 rng(3);
  Bytes bytes = random_bytes(kMapped, rng);
  Version version = first_version(bytes, rng);
  const int64_t piece = version->piece_size();
  for (int i = 0; i < 9; ++i) version = changed(version.get(), bytes, int64_t{16} << 20, {{5, 6}}, rng);
  CHECK(holds(*version, bytes));
  if (!version->is_mapped()) return;
  CHECK(version->piece_size() > piece && version->num_pieces() <= 2048);
  CHECK(changed(version.get(), bytes, 0, {{5, 6}}, rng)->num_shared() == version->num_pieces() - 1);
}

// A forked process has its parent's versions, as they were, whatever becomes of them there; and the other way round.
TEST(forked_processes_leave_each_others_versions_alone) {
  std::mt19937_64 rng(4);
  Bytes bytes = random_bytes(2 * kMapped, rng);
  Version first = first_version(bytes, rng);
  Bytes later = bytes;
  Version second = changed(first.get(), later, 1000, {{0, 2 * kMapped}}, rng);
  int gate[2] = {};
  CHECK(pipe(gate) == 0);
  const pid_t child = fork();
  if (child == 0) {
    char go = 0;
    const bool is_told = read(gate[0], &go, 1) == 1;  // the parent's first version is no more
    Bytes own = later;
    Version third = changed(second.get(), own, 5000, {{0, kMapped}}, rng);
    const bool is_right = holds(*first, bytes) && holds(*second, later) && holds(*third, own);
    first.reset();
    second.reset();
    _exit(is_told && is_right && holds(*third, own) ? 0 : 1);
  }
  first.reset();
  Bytes own = later;
  const Version third = changed(second.get(), own, 5000, {{0, kMapped}}, rng);
  CHECK(write(gate[1], "g", 1) == 1);
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(holds(*second, later) && holds(*third, own));
}

}  // namespace
