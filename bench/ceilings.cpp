// What this machine can do at best, as JSON on stdout: bytes read a second by size of the working set, and the peaks of
// the instructions that top-K scans and encoders live on. bench/ceilings.py compiles and runs it.
//
//   ceilings THREADS MAX_BYTES
//
// Each thread works on its own share of the working set and on its own registers. Every figure is the best of some
// repetitions, because a ceiling that a busy moment lowers is none. The instruction set is chosen at run time.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int kChains = 12;  // independent sums: more than latency times throughput of any FMA unit so far
constexpr int kRepetitions = 5;
constexpr double kSeconds = 0.01;  // a repetition takes at least this

using Reader = void (*)(const char* begin, int64_t bytes);  // reads bytes, a multiple of 512
using Peak = void (*)(int64_t rounds);                      // runs kChains instructions a round

struct Instruction {
  const char* name;     // null: this CPU has none
  Peak run;             // null with it
  double ops_per_call;  // multiplications and additions of one instruction
};

struct Machine {
  const char* isa;
  std::vector<Reader> readers;  // the best one counts
  Instruction fma_f32, int8, bf16;
};

// The compiler must neither drop a sum nor merge two rounds.
#define LSIF_PEAK(function, isa, Vector, constraint, step)         \
  __attribute__((target(isa))) void function(int64_t rounds) {     \
    Vector a = {}, b = {}, sums[kChains] = {};                     \
    asm volatile("" : "+" constraint(a), "+" constraint(b));       \
    for (int64_t i = 0; i < rounds; ++i) {                         \
      _Pragma("GCC unroll 12") for (int j = 0; j < kChains; ++j) { \
        Vector& sum = sums[j];                                     \
        step;                                                      \
        asm volatile("" : "+" constraint(sum));                    \
      }                                                            \
    }                                                              \
  }

// Loads one vector after the other; `ahead` bytes before they are needed, if any, the cache is told.
#define LSIF_READER(function, isa, Vector, constraint, load, ahead)                  \
  __attribute__((target(isa))) void function(const char* begin, int64_t bytes) {     \
    for (const char* p = begin; p < begin + bytes; p += 512) {                       \
      _Pragma("GCC unroll 16") for (int j = 0; j < int{512 / sizeof(Vector)}; ++j) { \
        Vector value = load(reinterpret_cast<const Vector*>(p) + j);                 \
        asm volatile("" : : constraint(value));                                      \
        if (ahead > 0 && j * sizeof(Vector) % 64 == 0) {                             \
          __builtin_prefetch(p + ahead + j * sizeof(Vector));                        \
        }                                                                            \
      }                                                                              \
    }                                                                                \
  }

#if defined(__x86_64__)

LSIF_READER(read_avx512, "avx512f", __m512i, "v", _mm512_load_si512, 0)
LSIF_READER(read_avx512_ahead, "avx512f", __m512i, "v", _mm512_load_si512, 2048)
LSIF_READER(read_avx2, "avx2", __m256i, "x", _mm256_load_si256, 0)
LSIF_READER(read_avx2_ahead, "avx2", __m256i, "x", _mm256_load_si256, 2048)
LSIF_READER(read_sse2, "sse2", __m128i, "x", _mm_load_si128, 0)

LSIF_PEAK(fma_avx512, "avx512f", __m512, "v", sum = _mm512_fmadd_ps(a, b, sum))
LSIF_PEAK(fma_avx2, "avx2,fma", __m256, "x", sum = _mm256_fmadd_ps(a, b, sum))
LSIF_PEAK(multiply_add_sse2, "sse2", __m128, "x", sum = _mm_add_ps(_mm_mul_ps(a, b), sum))
LSIF_PEAK(dpbusd_avx512, "avx512f,avx512vnni", __m512i, "v", sum = _mm512_dpbusd_epi32(sum, a, b))
LSIF_PEAK(dpbusd_avx_vnni, "avx2,avxvnni", __m256i, "x", sum = _mm256_dpbusd_avx_epi32(sum, a, b))
// The products of bytes of AVX2 come as sums of two in 16 bits. What widens and adds them is left out: it can come less
// often, so this is above what an exact scan can reach.
LSIF_PEAK(maddubs_avx2, "avx2", __m256i, "x", sum = _mm256_maddubs_epi16(sum, b))
LSIF_PEAK(dpbf16_avx512, "avx512f,avx512bf16", __m512, "v",
          sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)))

Machine this_machine() {
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  Machine machine{"sse2", {read_sse2}, {"mulps+addps", multiply_add_sse2, 8}, {}, {}};
  if (avx2) machine = {"avx2", {read_avx2, read_avx2_ahead}, {"vfmadd ymm", fma_avx2, 16}, {}, {}};
  if (avx512) machine = {"avx512", {read_avx512, read_avx512_ahead}, {"vfmadd zmm", fma_avx512, 32}, {}, {}};
  if (avx2) machine.int8 = {"vpmaddubsw ymm", maddubs_avx2, 64};
  if (avx2 && __builtin_cpu_supports("avxvnni")) machine.int8 = {"vpdpbusd ymm", dpbusd_avx_vnni, 64};
  if (avx512 && __builtin_cpu_supports("avx512vnni")) machine.int8 = {"vpdpbusd zmm", dpbusd_avx512, 128};
  if (avx512 && __builtin_cpu_supports("avx512bf16")) machine.bf16 = {"vdpbf16ps zmm", dpbf16_avx512, 64};
  return machine;
}

#else

typedef float Floats __attribute__((vector_size(16)));
typedef int64_t Ints __attribute__((vector_size(16)));

// The base instruction set of AArch64; elsewhere whatever the compiler makes of 16-byte vectors.
void read_generic(const char* begin, int64_t bytes) {
  Ints sum = {};
  for (const char* p = begin; p < begin + bytes; p += sizeof(Ints)) sum ^= *reinterpret_cast<const Ints*>(p);
  volatile int64_t kept = sum[0] ^ sum[1];
  (void)kept;
}

void multiply_add_generic(int64_t rounds) {
  volatile float source = 0;
  Floats a = {source}, b = {source}, sums[kChains] = {};
  for (int64_t i = 0; i < rounds; ++i) {
    for (Floats& sum : sums) sum += a * b;
    a += sums[0];  // so that no round is like another
  }
  volatile float kept = sums[kChains - 1][0];
  (void)kept;
}

Machine this_machine() { return {"generic", {read_generic}, {"multiply-add", multiply_add_generic, 8}, {}, {}}; }

#endif

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Seconds from the first start to the last end of work(thread) on all threads, which start together.
double seconds_of(int threads, const std::function<void(int)>& work) {
  std::atomic<int> waiting{threads};
  std::vector<double> begins(threads), ends(threads);
  const auto body = [&](int thread) {
    --waiting;
    while (waiting > 0) std::this_thread::yield();
    begins[thread] = now();
    work(thread);
    ends[thread] = now();
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(body, thread);
  body(0);
  for (std::thread& other : others) other.join();
  return *std::max_element(ends.begin(), ends.end()) - *std::min_element(begins.begin(), begins.end());
}

// The best rate of `work(thread, rounds)`, of which every thread does `amount` a round.
double best_rate(int threads, double amount, const std::function<void(int, int64_t)>& work) {
  int64_t rounds = 1;
  double best = 0;
  for (int repetition = 0; repetition < kRepetitions;) {
    const double seconds = seconds_of(threads, [&](int thread) { work(thread, rounds); });
    if (seconds < kSeconds) {
      rounds = std::max(2 * rounds, static_cast<int64_t>(rounds * kSeconds / std::max(seconds, 1e-6)));
      continue;
    }
    best = std::max(best, threads * amount * static_cast<double>(rounds) / seconds);
    ++repetition;
  }
  return best;
}

class Memory {
 public:
  explicit Memory(int64_t bytes) : bytes_(bytes) {
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
      std::fprintf(stderr, "no memory for a working set of %lld bytes\n", static_cast<long long>(bytes));
      std::exit(1);
    }
    data_ = static_cast<char*>(data);
#if defined(MADV_HUGEPAGE)
    madvise(data_, bytes, MADV_HUGEPAGE);  // fewer misses of the address cache, as numpy's large arrays have it
#endif
    std::fill(data_, data_ + bytes, 1);  // pages never written to are all one and the same
  }
  ~Memory() { munmap(data_, bytes_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  const char* data() const { return data_; }

 private:
  char* data_;
  int64_t bytes_;
};

double bandwidth(const Machine& machine, int threads, int64_t bytes) {
  const int64_t share = std::max<int64_t>(bytes / threads / 4096 * 4096, 4096);
  const Memory memory(share * threads);
  double best = 0;
  for (const Reader read : machine.readers) {
    const auto work = [&](int thread, int64_t rounds) {
      for (int64_t i = 0; i < rounds; ++i) read(memory.data() + thread * share, share);
    };
    best = std::max(best, best_rate(threads, static_cast<double>(share), work));
  }
  return best;
}

std::string peak(const Instruction& instruction, int threads) {
  if (instruction.run == nullptr) return "null";
  const auto work = [&](int, int64_t rounds) { instruction.run(1000 * rounds); };
  const double rate = best_rate(threads, 1000.0 * kChains * instruction.ops_per_call, work);
  char text[128];
  std::snprintf(text, sizeof(text), R"({"instruction": "%s", "ops_per_s": %.6g})", instruction.name, rate);
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
  const int64_t max_bytes = argc > 2 ? std::atoll(argv[2]) : 0;
  if (threads < 1 || max_bytes < 1) {
    std::fprintf(stderr, "usage: %s THREADS MAX_BYTES\n", argv[0]);
    return 2;
  }
  const Machine machine = this_machine();
  std::printf(R"({"isa": "%s", "threads": %d, "bandwidth": [)", machine.isa, threads);
  const char* separator = "";
  for (int64_t bytes = 1 << 15; bytes <= std::max<int64_t>(max_bytes, 1 << 15); bytes *= 2) {
    std::printf("%s[%lld, %.6g]", separator, static_cast<long long>(bytes), bandwidth(machine, threads, bytes));
    separator = ", ";
  }
  std::printf(R"(], "peaks": {"fma_f32": %s, "int8": %s, "bf16": %s}})", peak(machine.fma_f32, threads).c_str(),
              peak(machine.int8, threads).c_str(), peak(machine.bf16, threads).c_str());
  std::printf("\n");
  return 0;
}
