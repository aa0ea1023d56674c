// Attention forward, backward and decoding. GFLOPs counts the products of the visible pairs of query and key (two
// forward, five backward), of the fastest iteration; peak is its share of the fused multiply-add peak; GBs is the rate
// at which decoding reads keys and values.
//
//   attention_bench [--benchmark_filter=decode]
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include <ondol/base/dtype.h>
#include <ondol/base/parallel.h>

#include "backend/kernel_table.h"
#include "peers.h"

namespace ondol::bench {
namespace {

struct Shape {
  const char* name;
  int64_t batch, q_len, kv_len, heads, kv_heads, head_dim;
  bool causal;
};

const Shape kShapes[] = {
    {"gpt2 B4 T256 H12 D64", 4, 256, 256, 12, 12, 64, true},
    {"gpt2 B1 T1024 H12 D64", 1, 1024, 1024, 12, 12, 64, true},
    {"bert B8 T128 H12 D64", 8, 128, 128, 12, 12, 64, false},
    {"small B12 T64 H4 D32", 12, 64, 64, 4, 4, 32, true},
    {"llama B1 T2048 H16/4 D128", 1, 2048, 2048, 16, 4, 128, true},
};
const Shape kDecodeShapes[] = {
    {"decode B1 K1024 H12 D64", 1, 1, 1024, 12, 12, 64, true},
    {"decode B1 K4096 H9/3 D64", 1, 1, 4096, 9, 3, 64, true},
    {"decode B8 K4096 H32/8 D128", 8, 1, 4096, 32, 8, 128, true},
};

double peak() {
  static const double measured = fma_peak(num_threads());
  return measured;
}

template <class T>
struct Operands {
  std::vector<T> q, k, v, out, grad_out, grad_q, grad_k, grad_v;
  std::vector<float> lse, workspace;
  AttentionBackwardArgs args{};

  explicit Operands(const Shape& s) {
    std::mt19937 random(1);
    const auto fill = [&random](std::vector<T>& values, int64_t count) {
      values.resize(count);
      for (T& value : values) value = T(static_cast<float>(random() % 2048) / 1024.0f - 1.0f);
      return values.data();
    };
    const int64_t q_count = s.batch * s.q_len * s.heads * s.head_dim;
    const int64_t kv_count = s.batch * s.kv_len * s.kv_heads * s.head_dim;
    lse.resize(s.batch * s.heads * s.q_len);
    workspace.resize(lse.size());
    AttentionArgs& f = args.forward;
    f.q = fill(q, q_count), f.k = fill(k, kv_count), f.v = fill(v, kv_count), f.out = fill(out, q_count);
    f.lse = lse.data();
    f.batch = s.batch, f.q_len = s.q_len, f.kv_len = s.kv_len;
    f.num_heads = s.heads, f.num_kv_heads = s.kv_heads, f.head_dim = s.head_dim;
    f.q_stride_h = f.out_stride_h = f.k_stride_h = f.v_stride_h = s.head_dim;
    f.q_stride_t = f.out_stride_t = s.heads * s.head_dim;
    f.k_stride_t = f.v_stride_t = s.kv_heads * s.head_dim;
    f.q_stride_b = f.out_stride_b = s.q_len * f.q_stride_t;
    f.k_stride_b = f.v_stride_b = s.kv_len * f.k_stride_t;
    f.scale = 0.125f;
    f.causal = s.causal;
    args.grad_out = fill(grad_out, q_count);
    args.grad_q = fill(grad_q, q_count), args.grad_k = fill(grad_k, kv_count), args.grad_v = fill(grad_v, kv_count);
    args.grad_q_stride_b = f.q_stride_b, args.grad_q_stride_t = f.q_stride_t, args.grad_q_stride_h = f.q_stride_h;
    args.grad_k_stride_b = f.k_stride_b, args.grad_k_stride_t = f.k_stride_t, args.grad_k_stride_h = f.k_stride_h;
    args.grad_v_stride_b = f.v_stride_b, args.grad_v_stride_t = f.v_stride_t, args.grad_v_stride_h = f.v_stride_h;
    args.workspace = workspace.data();
  }
};

template <class T>
void run(benchmark::State& state, const Shape& s, bool backward) {
  Operands<T> data(s);
  const KernelTable& table = kernel_table(Device{});
  const auto forward_kernel = table.attention.get(dtype_of<T>::value);
  const auto backward_kernel = table.attention_backward.get(dtype_of<T>::value);
  forward_kernel(data.args.forward, nullptr);
  if (backward) backward_kernel(data.args, nullptr);
  double best = 1e30;
  for (auto _ : state) {
    const double begin = seconds_now();
    if (backward) {
      backward_kernel(data.args, nullptr);
    } else {
      forward_kernel(data.args.forward, nullptr);
    }
    best = std::min(best, seconds_now() - begin);
  }
  const double pairs = s.causal && s.q_len > 1
                           ? static_cast<double>(s.q_len) * static_cast<double>(s.q_len + 1) / 2
                           : static_cast<double>(s.q_len * s.kv_len);
  const double flops =
      (backward ? 10.0 : 4.0) * pairs * static_cast<double>(s.batch * s.heads) * static_cast<double>(s.head_dim);
  state.counters["GFLOPs"] = flops / best * 1e-9;
  state.counters["peak"] = flops / best * 1e-9 / peak();
  state.counters["GBs"] = static_cast<double>((data.k.size() + data.v.size()) * sizeof(T)) / best * 1e-9;
}

void register_all() {
  const auto add = [](const std::string& name, auto body) {
    benchmark::RegisterBenchmark(name.c_str(), body)->UseRealTime()->Unit(benchmark::kMicrosecond);
  };
  for (const Shape& s : kShapes) {
    for (bool backward : {false, true}) {
      const std::string name = std::string(backward ? "backward" : "forward") + "/" + s.name;
      add(name + "/f32", [&s, backward](benchmark::State& state) { run<float>(state, s, backward); });
      add(name + "/bf16", [&s, backward](benchmark::State& state) { run<bfloat16>(state, s, backward); });
    }
  }
  for (const Shape& s : kDecodeShapes) {
    add(std::string(s.name) + "/f32", [&s](benchmark::State& state) { run<float>(state, s, false); });
    add(std::string(s.name) + "/bf16", [&s](benchmark::State& state) { run<bfloat16>(state, s, false); });
  }
}

}  // namespace
}  // namespace ondol::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  ondol::bench::register_all();
  benchmark::AddCustomContext("fma_peak_gflops", std::to_string(ondol::bench::peak()));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
