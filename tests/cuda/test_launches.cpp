// What launchers do beyond the CPU kernels: batches of sequences, packing, and refusals.
#include "check.h"
#include "device_array.h"
#include "device_linear.h"
#include "guarded.h"
#include "kernels/cuda/launch.h"
#include "oracle.h"
#include "tables.h"

namespace {

using device::Array;
using device::expect_success;
using guarded::Matrix;

TEST(pack_linear_gives_the_cpu_layout) {
  oracle::Random random(1);
  for (const int64_t in_dim : {1, 3, 64}) {
    for (const int64_t out_dim : {1, 16, 17, 100}) {
      Matrix weight(out_dim, in_dim);
      weight.fill([&] { return random.normal(); });
      const int64_t size = lsif::packed_linear_size(in_dim, out_dim);
      std::vector<float> expected(size), packed(size);
      lsif::pack_linear(weight.data(), in_dim, out_dim, expected.data());
      const Array<float> on_device(weight.data(), in_dim * out_dim);
      const Array<float> out(size);
      expect_success(lsif::cuda::pack_linear(on_device.data(), in_dim, out_dim, out.data(), nullptr));
      out.copy_to(packed.data());
      CHECK(packed == expected);
      const int64_t bf16_size = lsif::packed_bf16_size(in_dim, out_dim);
      std::vector<uint16_t> expected_bf16(bf16_size), packed_bf16(bf16_size);
      lsif::pack_linear_bf16(weight.data(), in_dim, out_dim, expected_bf16.data());
      const Array<uint16_t> out_bf16(bf16_size);
      expect_success(lsif::cuda::pack_linear_bf16(on_device.data(), in_dim, out_dim, out_bf16.data(), nullptr));
      out_bf16.copy_to(packed_bf16.data());
      CHECK(packed_bf16 == expected_bf16);
    }
  }
}

TEST(heads_too_wide_for_bfloat16_are_refused) {
  lsif::AttentionParams attention = {lsif::AttentionKind::kSoftmax, 1, 129, 3, nullptr, nullptr, nullptr, 0};
  attention.bf16 = true;
  CHECK(lsif::cuda::attention(attention, {}, nullptr, 0, nullptr, 4, nullptr) == cudaErrorInvalidValue);
}

// A batch gives each sequence what it gets alone, bit for bit.
struct Sequences {
  static constexpr int64_t kDim = 10;

  Sequences() : x(total(), kDim) {
    x.fill([&] { return random.normal(); });
    for (int64_t i = 0; i < total(); ++i) {
      times.push_back(random.integer(0, 9) == 0 ? lsif::kUnknownTime : i * 50);
    }
  }

  int64_t batch() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t total() const { return offsets.back(); }
  int64_t length(int64_t b) const { return offsets[b + 1] - offsets[b]; }

  oracle::Random random{2};
  std::vector<int64_t> offsets = {0, 0, 1, 40, 40, 190, 191};
  std::vector<int64_t> times;
  Matrix x;
};

void check_attention_batch(bool in_bf16) {
  Sequences all;
  constexpr int64_t kDim = Sequences::kDim, kHeads = 2;
  const int64_t total = all.total(), batch = all.batch();
  Matrix k(total, kDim), v(total, kDim), position(kHeads, 30), time(kHeads, 5), y(total, kDim);
  for (Matrix* matrix : {&k, &v, &position, &time}) matrix->fill([&] { return all.random.normal(); });
  const std::vector<int64_t> boundaries = {1, 60, 3600};
  const Array<float> on_q(all.x.data(), total * kDim), on_k(k.data(), total * kDim), on_v(v.data(), total * kDim);
  const Array<float> on_position(position.data(), kHeads * 30), on_time(time.data(), kHeads * 5), out(total * kDim);
  const Array<int64_t> on_boundaries(boundaries.data(), 3), on_times(all.times.data(), total);
  const Array<int64_t> on_offsets(all.offsets.data(), batch + 1);
  lsif::AttentionParams params = {
      lsif::AttentionKind::kSoftmax, kHeads, kDim / kHeads, 30, position.data(), time.data(), boundaries.data(), 3};
  params.bf16 = in_bf16;
  lsif::AttentionParams on_params = params;
  on_params.position_bias = on_position.data();
  on_params.time_bias = on_time.data();
  on_params.time_boundaries = on_boundaries.data();
  const lsif::AttentionInput on_input = {on_q.data(), on_k.data(),     on_v.data(),     kDim,
                                         kDim,        on_times.data(), on_times.data(), total};
  expect_success(lsif::cuda::attention(on_params, on_input, on_offsets.data(), batch, out.data(), kDim, nullptr));
  out.copy_to(y.data());
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t first = all.offsets[b];
    const int64_t* times = all.times.data() + first;
    const lsif::AttentionInput one = {all.x.row(first), k.row(first), v.row(first), kDim, kDim, times, times,
                                      all.length(b)};
    Matrix rows(one.seq_len, kDim);
    lsif::cpu::cuda_kernels().attention(params, one, 0, rows.data(), kDim, nullptr);
    for (int64_t i = 0; i < one.seq_len; ++i) CHECK(guarded::same_bits(rows, i, y, first + i));
  }
}

void check_pooling_batch() {
  Sequences all;
  constexpr int64_t kDim = Sequences::kDim, kInterests = 3;
  const int64_t total = all.total(), batch = all.batch();
  Matrix hidden(7, kDim), logits(kInterests, 7), decay(1, kInterests), pooled(batch * kInterests, kDim);
  for (Matrix* matrix : {&hidden, &logits}) matrix->fill([&] { return all.random.normal(); });
  decay.fill([&] { return static_cast<float>(all.random.uniform()); });
  guarded::Array<float> packed_hidden(lsif::packed_linear_size(kDim, 7));
  guarded::Array<float> packed_logits(lsif::packed_linear_size(7, kInterests));
  lsif::pack_linear(hidden.data(), kDim, 7, packed_hidden.data());
  lsif::pack_linear(logits.data(), 7, kInterests, packed_logits.data());
  const lsif::InterestPoolingParams params = {
      {packed_hidden.data(), nullptr, kDim, 7, lsif::Activation::kSilu},
      {packed_logits.data(), nullptr, 7, kInterests, lsif::Activation::kIdentity},
      decay.data()};
  const device::DeviceLinear on_hidden(params.hidden), on_logits(params.logits);
  const Array<float> on_x(all.x.data(), total * kDim), on_decay(decay.data(), kInterests);
  const Array<int64_t> on_times(all.times.data(), total), on_offsets(all.offsets.data(), batch + 1);
  const Array<float> out(batch * kInterests * kDim), scratch(lsif::cuda::interest_pooling_scratch_size(params, total));
  expect_success(lsif::cuda::interest_pooling({on_hidden.params, on_logits.params, on_decay.data()}, on_x.data(), kDim,
                                              on_times.data(), nullptr, on_offsets.data(), batch, total, out.data(),
                                              scratch.data(), nullptr));
  out.copy_to(pooled.data());
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t first = all.offsets[b];
    const int64_t newest = all.length(b) == 0 ? lsif::kUnknownTime : all.times[all.offsets[b + 1] - 1];
    Matrix interests(kInterests, kDim);
    lsif::cpu::cuda_kernels().interest_pooling(params, all.x.row(first), kDim, all.times.data() + first, newest,
                                               all.length(b), interests.data(), nullptr);
    for (int64_t a = 0; a < kInterests; ++a) CHECK(guarded::same_bits(interests, a, pooled, b * kInterests + a));
  }
}

TEST(a_batch_of_sequences_is_its_sequences) {
  check_attention_batch(false);
  check_attention_batch(true);
  check_pooling_batch();
}

}  // namespace
