// A linear layer whose numbers are on the device.
#pragma once

#include "device_array.h"
#include "kernels/linear.h"

namespace device {

struct DeviceLinear {
  explicit DeviceLinear(const lsif::LinearParams& host)
      : packed(host.packed, lsif::packed_linear_size(host.in_dim, host.out_dim)),
        bias(host.bias, host.out_dim),
        packed_bf16(host.packed_bf16, lsif::packed_bf16_size(host.in_dim, host.out_dim)),
        params{packed.data(), bias.data(), host.in_dim, host.out_dim, host.activation, packed_bf16.data()} {}

  Array<float> packed;
  Array<float> bias;
  Array<uint16_t> packed_bf16;
  lsif::LinearParams params;
};

}  // namespace device
