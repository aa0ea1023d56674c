// How near the kernels of a device come to its limits. Needs no benchmark library, so that it builds on a bare GPU
// machine (tools/gpu_check).
//
//   device_bench --device cuda > kernels.jsonl       # one line of JSON for each measurement
//   device_bench --device cpu --divide 64 --seconds 0.01
//
// The limits are measured first: the bandwidth of a copy of 1 GiB (bytes read plus bytes written) and the fastest bf16
// and f32 matrix product. Every other line gives the share of the time that these limits allow. A measurement queues as
// many calls as fill --seconds and waits for the stream once; the median of five of them counts. Inputs are random and
// several times larger than a GPU's cache. --divide makes them smaller.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <ondol/base/philox.h>
#include <ondol/ops/attention.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/embedding.h>
#include <ondol/ops/glu.h>
#include <ondol/ops/loss.h>
#include <ondol/ops/matmul.h>
#include <ondol/ops/norm.h>
#include <ondol/ops/optimizer.h>
#include <ondol/ops/reduce.h>
#include <ondol/ops/rope.h>
#include <ondol/tensor/allocator.h>

#include "backend/backend.h"

namespace ondol {
namespace {

using Clock = std::chrono::steady_clock;

struct Settings {
  std::string device = "cuda", only;
  int64_t divide = 1;
  double seconds = 0.05;
};

class Bench {
 public:
  explicit Bench(const Settings& settings) : settings_(settings), device_(device_from_name(settings.device)) {}

  Device device() const { return device_; }
  /// A row count of the full size, made smaller as asked.
  int64_t rows(int64_t full) const { return std::max<int64_t>(8, full / settings_.divide); }

  /// Normal deviates; a block of them repeated.
  Tensor random(const Shape& shape, DType dtype, double scale = 1.0) const {
    constexpr int64_t kBlock = 1 << 16;
    std::vector<float> values(kBlock);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(scale * philox_normal({7, 0, 0}, i));
    const int64_t blocks = (shape.numel() + kBlock - 1) / kBlock;
    const Tensor block = Tensor::from_vector(values, {1, kBlock}).to(dtype).to(device_);
    const Tensor all = Tensor::empty({blocks, kBlock}, dtype, device_);
    all.copy_from(block);
    return all.reshape({blocks * kBlock}).narrow(0, 0, shape.numel()).reshape(shape);
  }
  Tensor random_ids(int64_t count, int64_t limit) const {
    std::vector<int32_t> ids(static_cast<size_t>(count));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(philox_word({8, 0, 0}, i) % limit);
    return Tensor::from_vector(ids, {count}).to(device_);
  }

  /// Prints a line; gives the median seconds of a call, or 0 when the name was not asked for.
  double measure(const std::string& name, DType dtype, double bytes, double flops, const std::function<void()>& call) {
    if (name.find(settings_.only) == std::string::npos) return 0.0;
    nlohmann::ordered_json line = {{"name", name}, {"dtype", dtype_name(dtype)}};
    double seconds = 0;
    try {
      seconds = median_seconds(call);
    } catch (const std::exception& error) {
      line["error"] = error.what();
      std::printf("%s\n", line.dump().c_str());
      return 0.0;
    }
    line["microseconds"] = seconds * 1e6;
    if (bytes > 0) line["gigabytes_per_second"] = bytes / seconds * 1e-9;
    if (flops > 0) line["teraflops"] = flops / seconds * 1e-12;
    const double limit = std::max(bandwidth > 0 ? bytes / bandwidth : 0.0, peak(dtype) > 0 ? flops / peak(dtype) : 0.0);
    if (limit > 0) line["share_of_limit"] = limit / seconds;
    std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);
    release_cached_memory(device_);
    return seconds;
  }

  double bandwidth = 0;  // bytes per second
  double peak_bf16 = 0, peak_f32 = 0;

 private:
  double peak(DType dtype) const { return dtype == DType::bf16 ? peak_bf16 : peak_f32; }

  double seconds_of(int calls, const std::function<void()>& call) const {
    const auto start = Clock::now();
    for (int i = 0; i < calls; ++i) call();
    backend(device_.type).synchronize(device_);
    return std::chrono::duration<double>(Clock::now() - start).count() / calls;
  }

  double median_seconds(const std::function<void()>& call) const {
    seconds_of(3, call);  // kernels are loaded, memory is cached
    const double once = std::max(seconds_of(1, call), 1e-7);
    const int calls = static_cast<int>(std::clamp(settings_.seconds / once, 1.0, 10000.0));
    std::vector<double> times;
    for (int i = 0; i < 5; ++i) times.push_back(seconds_of(calls, call));
    std::nth_element(times.begin(), times.begin() + 2, times.end());
    return times[2];
  }

  Settings settings_;
  Device device_;
};

double bytes_of(std::initializer_list<Tensor> tensors) {
  double total = 0;
  for (const Tensor& t : tensors) total += static_cast<double>(t.numel()) * static_cast<double>(dtype_size(t.dtype()));
  return total;
}

void limits(Bench& b) {
  {
    const Tensor from = b.random({b.rows(1 << 17), 2048}, DType::f32);
    const Tensor to = Tensor::empty(from.shape(), DType::f32, b.device());
    const double bytes = 2.0 * bytes_of({from});
    const double seconds = b.measure("copy", DType::f32, bytes, 0, [&] { to.copy_from(from); });
    b.bandwidth = seconds > 0 ? bytes / seconds : 0.0;
  }
  for (const DType dtype : {DType::bf16, DType::f32}) {
    const int64_t n = b.rows(dtype == DType::bf16 ? 8192 : 4096);
    const Tensor x = b.random({n, n}, dtype), w = b.random({n, n}, dtype);
    const double flops = 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
    const double seconds = b.measure(concat("gemm peak ", n), dtype, 0, flops, [&] { ops::linear(x, {.weight = w}); });
    (dtype == DType::bf16 ? b.peak_bf16 : b.peak_f32) = seconds > 0 ? flops / seconds : 0.0;
  }
}

/// The products of a training step of GPT-2 small and of a Llama layer.
void products(Bench& b) {
  for (const auto& [in, out] : {std::pair<int64_t, int64_t>{768, 2304}, {768, 3072}, {3072, 768}, {4096, 14336}}) {
    const int64_t rows = b.rows(16384);
    const Tensor x = b.random({rows, in}, DType::bf16), w = b.random({out, in}, DType::bf16);
    const Tensor g = b.random({rows, out}, DType::bf16), bias = b.random({out}, DType::bf16);
    const Tensor grad_w = Tensor::zeros({out, in}, DType::f32, b.device());
    const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out);
    const std::string name = concat("linear ", rows, "x", in, " to ", out);
    b.measure(name, DType::bf16, bytes_of({x, w, g}), flops, [&] { ops::linear(x, {.weight = w, .bias = bias}); });
    b.measure(name + " input gradient", DType::bf16, bytes_of({x, w, g}), flops,
              [&] { ops::linear_backward_input(g, w); });
    b.measure(name + " weight gradient", DType::bf16, bytes_of({x, grad_w, g}), flops,
              [&] { ops::linear_backward_weight_into(grad_w, g, x, true); });
  }
}

void rows_of_tensors(Bench& b) {
  const DType dtype = DType::bf16;
  const int64_t rows = b.rows(32768), cols = 4096;
  const Tensor x = b.random({rows, cols}, dtype), g = b.random({rows, cols}, dtype);
  const Tensor weight = b.random({cols}, dtype), bias = b.random({cols}, dtype);
  const double one = bytes_of({x});
  const ops::NormOptions plain{}, residual{.residual = &g};
  const ops::NormWeightGradients targets{Tensor::zeros({cols}, DType::f32, b.device()),
                                         Tensor::zeros({cols}, DType::f32, b.device()), true};
  b.measure("rms_norm", dtype, 2 * one, 0, [&] { ops::rms_norm(x, weight, plain); });
  b.measure("rms_norm with residual", dtype, 4 * one, 0, [&] { ops::rms_norm(x, weight, residual); });
  b.measure("layer_norm", dtype, 2 * one, 0, [&] { ops::layer_norm(x, weight, bias, plain); });
  const ops::NormResult rms = ops::rms_norm(x, weight, plain), layer = ops::layer_norm(x, weight, bias, plain);
  b.measure("rms_norm backward", dtype, 3 * one, 0, [&] {
    ops::norm_backward(g, {}, rms, weight, 0.0f, {targets.weight, {}, true});
  });
  b.measure("layer_norm backward", dtype, 3 * one, 0, [&] { ops::norm_backward(g, {}, layer, weight, 0.0f, targets); });
  b.measure("add", dtype, 3 * one, 0, [&] { ops::add(x, g); });
  b.measure("gelu_tanh", dtype, 2 * one, 0, [&] { ops::activation(x, Activation::gelu_tanh); });
  b.measure("softmax", dtype, 2 * one, 0, [&] { ops::softmax(x); });
  b.measure("dropout", dtype, 2 * one, 0, [&] { ops::dropout(x, 0.1f, {1, 2, {}}); });
  b.measure("glu silu", dtype, 1.5 * one, 0, [&] { ops::glu(x, Activation::silu); });
  const Tensor half = b.random({rows, cols / 2}, dtype);
  b.measure("glu silu backward", dtype, 2.5 * one, 0, [&] { ops::glu_backward(half, x, Activation::silu); });
  const Tensor out = Tensor::empty({cols}, DType::f32, b.device());
  b.measure("sum of rows", dtype, one, 0, [&] { ops::sum_rows_into(out, x, false); });
  const RopeTable table = ops::make_rope_table({.head_dim = 128, .max_positions = rows}, b.device());
  const Tensor heads = x.reshape({1, rows, 32, 128});
  b.measure("rope in place", dtype, 2 * one, 0, [&] { ops::rope_in_place(heads, table, {}); });
}

void losses(Bench& b) {
  const int64_t rows = b.rows(8192), vocab = 50304;
  const Tensor logits = b.random({rows, vocab}, DType::bf16), labels = b.random_ids(rows, vocab);
  const double one = bytes_of({logits});
  b.measure("cross_entropy", DType::bf16, one, 0, [&] { ops::cross_entropy(logits, labels); });
  const Tensor lse = ops::cross_entropy(logits, labels).lse;
  const Tensor scale = Tensor::full({1}, 1.0, DType::f32, b.device());
  b.measure("cross_entropy backward", DType::bf16, 2 * one, 0,
            [&] { ops::cross_entropy_backward(logits, labels, lse, 1e-4f, scale); });
  const Tensor embedding = b.random({vocab, 1024}, DType::bf16), ids = b.random_ids(4 * rows, vocab);
  const Tensor rows_out = b.random({4 * rows, 1024}, DType::bf16);
  b.measure("embedding", DType::bf16, 2 * bytes_of({rows_out}), 0, [&] { ops::embedding(embedding, ids); });
  const Tensor grad = Tensor::zeros({vocab, 1024}, DType::f32, b.device());
  const double touched = 8.0 * 1024 * static_cast<double>(std::min(4 * rows, vocab));  // f32, read and written
  b.measure("embedding backward", DType::bf16, bytes_of({rows_out}) + touched, 0,
            [&] { ops::embedding_backward_into(grad, rows_out, ids, true); });
}

void optimizer(Bench& b) {
  const int64_t count = b.rows(1 << 15) * 4096;
  const auto make = [&](double scale) { return b.random({count}, DType::f32, scale); };
  const ops::AdamwState state{make(0.02), Tensor::empty({count}, DType::bf16, b.device()), make(1e-3), make(1e-3),
                              Tensor::full({count}, 1e-6, DType::f32, b.device())};
  const auto scalars = ops::make_optimizer_scalars(b.device());
  ops::set_optimizer_scalars(scalars, 1e-4f, 1.0f, 10);
  b.measure("adamw with bf16 copy", DType::f32, 30.0 * static_cast<double>(count), 0,
            [&] { ops::adamw_step(state, {}, scalars); });
  b.measure("sum of squares", DType::f32, 4.0 * static_cast<double>(count), 0, [&] { ops::sum_squares(state.grad); });
}

void attention(Bench& b) {
  struct Sizes {
    int64_t batch, length, heads, kv_heads, dim;
  };
  for (const Sizes& s : {Sizes{8, 1024, 12, 12, 64}, Sizes{4, 4096, 16, 16, 64}, Sizes{4, 4096, 32, 8, 128}}) {
    const int64_t length = b.rows(s.length);
    const Tensor q = b.random({s.batch, length, s.heads, s.dim}, DType::bf16);
    const Tensor k = b.random({s.batch, length, s.kv_heads, s.dim}, DType::bf16);
    const Tensor v = b.random({s.batch, length, s.kv_heads, s.dim}, DType::bf16);
    const AttentionOptions options{.causal = true};
    const double flops = 2.0 * static_cast<double>(s.batch * s.heads * length * length * s.dim);  // half is masked
    const std::string name = concat("attention B", s.batch, " T", length, " H", s.heads, "/", s.kv_heads, " D", s.dim);
    b.measure(name, DType::bf16, bytes_of({q, k, v, q}), flops, [&] { ops::attention(q, k, v, options); });
    const ops::AttentionResult forward = ops::attention(q, k, v, options);
    const Tensor grad_q = q.clone(), grad_k = k.clone(), grad_v = v.clone();
    b.measure(name + " backward", DType::bf16, 2.0 * bytes_of({q, q, k, v}), 2.5 * flops,
              [&] { ops::attention_backward_into(q, q, k, v, forward, options, grad_q, grad_k, grad_v); });
  }
}

}  // namespace
}  // namespace ondol

int main(int argc, char** argv) {
  ondol::Settings settings;
  CLI::App app("Kernels of a device beside its limits; one line of JSON for each measurement");
  app.add_option("--device", settings.device, "cuda, cuda:N or cpu")->capture_default_str();
  app.add_option("--only", settings.only, "measurements with this text in their names");
  app.add_option("--divide", settings.divide, "divides the number of rows")->check(CLI::PositiveNumber);
  app.add_option("--seconds", settings.seconds, "of one measurement")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    ondol::Bench bench(settings);
    ondol::limits(bench);
    ondol::products(bench);
    ondol::rows_of_tensors(bench);
    ondol::losses(bench);
    ondol::optimizer(bench);
    ondol::attention(bench);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
