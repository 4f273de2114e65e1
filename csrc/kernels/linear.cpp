#include "kernels/linear.h"

#include <cstring>

namespace lsif {
namespace {

uint16_t to_bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);  // finite: weights are checked
}

}  // namespace

void to_bfloat16(const float* x, int64_t n, uint16_t* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = to_bfloat16(x[i]);
}

void pack_linear(const float* weight, int64_t in_dim, int64_t out_dim, float* packed) {
  for (int64_t panel = 0; panel < out_dim; panel += kLinearPanel) {
    for (int64_t i = 0; i < in_dim; ++i) {
      for (int64_t c = 0; c < kLinearPanel; ++c) {
        *packed++ = panel + c < out_dim ? weight[(panel + c) * in_dim + i] : 0.0f;
      }
    }
  }
}

void pack_linear_bf16(const float* weight, int64_t in_dim, int64_t out_dim, uint16_t* packed) {
  for (int64_t panel = 0; panel < out_dim; panel += kLinearPanel) {
    for (int64_t pair = 0; pair < in_dim; pair += 2) {
      for (int64_t c = 0; c < kLinearPanel; ++c) {
        for (int64_t i = pair; i < pair + 2; ++i) {
          *packed++ = panel + c < out_dim && i < in_dim ? to_bfloat16(weight[(panel + c) * in_dim + i]) : 0;
        }
      }
    }
  }
}

}  // namespace lsif
