// Every op with the shapes of a small model's training step, from the op case table of the tests.
//
//   ops_bench --benchmark_filter='rms_norm'              # forward and backward, both dtypes
//   ops_bench --benchmark_filter='copy|adamw' --benchmark_min_time=2
//
// All figures are of the fastest call, which neighbours on the machine disturb least: best_us its time, GB/s each input
// and output counted once, of_copy the share of the bandwidth of a plain copy measured in the same run, GFLOP/s where
// arithmetic is the limit.
#include <algorithm>
#include <chrono>

#include <benchmark/benchmark.h>

#include "support/op_cases.h"

namespace ondol::testing {
namespace {

double bytes_of(const std::vector<Tensor>& tensors) {
  double total = 0;
  for (const Tensor& t : tensors) total += static_cast<double>(t.numel()) * static_cast<double>(dtype_size(t.dtype()));
  return total;
}

constexpr int64_t kCopyElements = 2 << 20;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Bytes read and written per second by copying 8 MiB, the size of the cases' tensors.
double copy_bandwidth() {
  static const double best = [] {
    const Tensor from = Tensor::full({kCopyElements}, 1.0), to = Tensor::zeros({kCopyElements});
    double seconds = 1e9;
    for (int i = 0; i < 300; ++i) {
      const double start = seconds_now();
      to.copy_from(from);
      seconds = std::min(seconds, seconds_now() - start);
    }
    return 2.0 * 4.0 * kCopyElements / seconds;
  }();
  return best;
}

/// Runs `call`, which gives the tensors that it wrote, and reports its fastest run.
template <class Call>
void measure(benchmark::State& state, double input_bytes, double flops, const Call& call) {
  double best = 1e9, bytes = 0;
  for (auto _ : state) {
    const double start = seconds_now();
    const std::vector<Tensor> written = call();
    best = std::min(best, seconds_now() - start);
    bytes = input_bytes + bytes_of(written);
  }
  state.counters["best_us"] = best * 1e6;
  state.counters["GB/s"] = bytes / best * 1e-9;
  state.counters["of_copy"] = bytes / best / copy_bandwidth();
  if (flops > 0) state.counters["GFLOP/s"] = flops / best * 1e-9;
}

void forward(benchmark::State& state, const OpCase& c) {
  const std::vector<Tensor> inputs = build_inputs(c);
  measure(state, bytes_of(inputs), c.flops, [&] { return c.run(inputs, false).outputs; });
}

void backward(benchmark::State& state, const OpCase& c) {
  const std::vector<Tensor> inputs = build_inputs(c);
  const OpResult result = c.run(inputs, true);
  std::vector<Tensor> grads;
  for (int o = 0; o < c.grad_outputs; ++o) {
    const Tensor& output = result.outputs[static_cast<size_t>(o)];
    grads.push_back(Tensor::full(output.shape(), 1.0, output.dtype()));
  }
  measure(state, bytes_of(inputs) + bytes_of(grads), 2.0 * c.flops, [&] { return result.backward(grads); });
}

void copy(benchmark::State& state) {
  const Tensor from = Tensor::full({kCopyElements}, 1.0), to = Tensor::zeros({kCopyElements});
  measure(state, bytes_of({from}), 0, [&] {
    to.copy_from(from);
    return std::vector<Tensor>{to};
  });
}

/// What one call costs beside the work.
void call_overhead(benchmark::State& state) {
  const Tensor a = Tensor::zeros({4, 16}), b = Tensor::zeros({4, 16});
  for (auto _ : state) benchmark::DoNotOptimize(ops::add(a, b));
}

}  // namespace
}  // namespace ondol::testing

int main(int argc, char** argv) {
  using namespace ondol::testing;
  const std::vector<OpCase> cases = benchmark_cases();
  benchmark::RegisterBenchmark("copy", copy);
  benchmark::RegisterBenchmark("call overhead: add (4, 16)", call_overhead);
  for (const OpCase& c : cases) {
    benchmark::RegisterBenchmark(c.name.c_str(), [&c](benchmark::State& state) { forward(state, c); });
    if (c.grad_outputs > 0 && c.op != "linear_cross_entropy") {
      benchmark::RegisterBenchmark((c.name + " backward").c_str(),
                                   [&c](benchmark::State& state) { backward(state, c); });
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
