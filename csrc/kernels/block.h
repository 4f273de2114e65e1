// The kernels of one block of the encoder                                                      (docs/model.md, 2)
#pragma once

#include "kernels/attention.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"

namespace lsif {

struct BlockParams {
  LayerNormParams norm;
  LinearParams input;
  AttentionParams attention;    // kSilu in hstu, kSoftmax in transformer
  LayerNormParams output_norm;  // hstu
  LinearParams output;
  LayerNormParams ffn_norm;  // transformer
  LinearParams ffn_up;
  LinearParams ffn_down;
};

}  // namespace lsif
