#include "kernels/linear.h"

namespace lsif {

void pack_linear(const float* weight, int64_t in_dim, int64_t out_dim, float* packed) {
  for (int64_t panel = 0; panel < out_dim; panel += kLinearPanel) {
    for (int64_t i = 0; i < in_dim; ++i) {
      for (int64_t c = 0; c < kLinearPanel; ++c) {
        *packed++ = panel + c < out_dim ? weight[(panel + c) * in_dim + i] : 0.0f;
      }
    }
  }
}

}  // namespace lsif
