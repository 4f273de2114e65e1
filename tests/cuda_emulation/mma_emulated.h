// The instructions of csrc/kernels/cuda/mma.cuh, which includes this behind its types in emulation.
#pragma once

namespace lsif::cuda {

// Calls use(i, k, a, b) for each register i of c and every k in turn: a and b are the registers, of whichever lanes,
// that hold A[row][k] and B[k][column] of that c. A register holds kNeighbours of k.
template <int kNeighbours, typename A, typename B, typename Use>
void for_products(const A& a, const B& b, Use use, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  struct Factors {
    A a;
    B b;
  };
  const auto lanes = ::emulated::Block::get().exchange(Factors{a, b}, file, line);
  const int g = static_cast<int>(threadIdx.x) % kWarp / 4;
  const int t = static_cast<int>(threadIdx.x) % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = g + 8 * (i / 2);
    const int column = 2 * t + i % 2;
    for (int k = 0; k < 8 * kNeighbours; ++k) {
      const int lane = k / kNeighbours % 4;
      const int half = k / kNeighbours / 4;
      use(i, k, lanes[row % 8 * 4 + lane].a.regs[2 * half + row / 8], lanes[column * 4 + lane].b.regs[half]);
    }
  }
}

inline MmaC multiply_add(const MmaC& c, const MmaA& a, const MmaB& b) {
  MmaC sums = c;
  for_products<4>(a, b, [&](int i, int k, uint32_t a_bytes, uint32_t b_bytes) {
    sums.regs[i] += static_cast<int>(a_bytes >> 8 * (k % 4) & 0xffu) * static_cast<int8_t>(b_bytes >> 8 * (k % 4));
  });
  return sums;
}

inline MmaA computed(MmaA a) { return a; }

inline uint32_t bf16_pair(float first, float second) {
  return __float_as_uint(to_bf16(first)) >> 16 | __float_as_uint(to_bf16(second));
}

inline void multiply_add(MmaFloatC& c, const MmaBf16A& a, const MmaBf16B& b) {
  const auto half = [](uint32_t pair, int k) { return __uint_as_float(k % 2 == 0 ? pair << 16 : pair & 0xffff0000u); };
  for_products<2>(
      a, b, [&](int i, int k, uint32_t a_pair, uint32_t b_pair) { c.regs[i] += half(a_pair, k) * half(b_pair, k); });
}

// The most an instruction may lose: every term, and then their sum, cut to 2^-23 of the largest power of two in it.
inline float sum_as_cut(const double (&terms)[9]) {
  const auto power = [](double x) { return __builtin_bit_cast(uint64_t, x) >> 52 & 0x7ff; };
  const auto cut = [](double x, uint64_t exponent) {  // 2^exponent, biased
    const auto unit = __builtin_bit_cast(double, (exponent - 23) << 52);
    return static_cast<double>(static_cast<int64_t>(x / unit)) * unit;
  };
  uint64_t largest = 0;
  for (const double term : terms) largest = max(largest, power(term));
  double sum = 0;
  for (const double term : terms) sum += largest == 0x7ff || largest < 64 ? term : cut(term, largest);
  const uint64_t exponent = power(sum);
  return static_cast<float>(exponent == 0x7ff || exponent < 64 ? sum : cut(sum, exponent));
}

inline void multiply_add(MmaFloatC& c, const MmaTf32A& a, const MmaTf32B& b) {
  const auto used = [](uint32_t bits) {
    const bool is_subnormal = (bits & 0x7f800000u) == 0;  // which may count as 0
    return is_subnormal ? 0.0 : static_cast<double>(__uint_as_float(bits & 0xffffe000u));
  };
  double terms[4][9];
  for (int i = 0; i < 4; ++i) terms[i][0] = c.regs[i];
  for_products<1>(
      a, b, [&](int i, int k, uint32_t a_bits, uint32_t b_bits) { terms[i][1 + k] = used(a_bits) * used(b_bits); });
  for (int i = 0; i < 4; ++i) c.regs[i] = sum_as_cut(terms[i]);
}

}  // namespace lsif::cuda
