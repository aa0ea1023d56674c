// The matrix products of transformer training and decoding, against Eigen and, where installed, OpenBLAS and oneDNN.
//
//   gemm_bench [--benchmark_filter='ondol/f32']
//
// GFLOPs is that of the fastest iteration; peak is its share of the fused multiply-add peak measured at start; GBs is
// the rate at which the weights are read (decoding).
#include <map>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <Eigen/Core>

#include <ondol/base/dtype.h>
#include <ondol/base/parallel.h>

#include "backend/kernel_table.h"
#include "peers.h"

namespace ondol::bench {
namespace {

struct Shape {
  const char* name;
  int64_t m, n, k;
  bool trans_a, trans_b;
};

// Activations (tokens, inputs), weights (outputs, inputs): forward a w^T, input gradient g w, weight gradient g^T a.
const Shape kShapes[] = {
    {"forward 1024x768x768", 1024, 768, 768, false, true},
    {"forward 1024x2304x768", 1024, 2304, 768, false, true},
    {"forward 1024x3072x768", 1024, 3072, 768, false, true},
    {"forward 1024x768x3072", 1024, 768, 3072, false, true},
    {"forward 1024x50257x768", 1024, 50257, 768, false, true},
    {"input_gradient 1024x768x768", 1024, 768, 768, false, false},
    {"input_gradient 1024x768x2304", 1024, 768, 2304, false, false},
    {"input_gradient 1024x768x3072", 1024, 768, 3072, false, false},
    {"input_gradient 1024x3072x768", 1024, 3072, 768, false, false},
    {"input_gradient 1024x768x50257", 1024, 768, 50257, false, false},
    {"weight_gradient 768x768x1024", 768, 768, 1024, true, false},
    {"weight_gradient 2304x768x1024", 2304, 768, 1024, true, false},
    {"weight_gradient 3072x768x1024", 3072, 768, 1024, true, false},
    {"weight_gradient 768x3072x1024", 768, 3072, 1024, true, false},
    {"weight_gradient 50257x768x1024", 50257, 768, 1024, true, false},
    {"small 768x128x128", 768, 128, 128, false, true},
    {"small 768x512x128", 768, 512, 128, false, true},
    {"small 768x128x512", 768, 128, 512, false, true},
    {"small 128x128x768", 128, 128, 768, true, false},
    {"small 64x64x64", 64, 64, 64, false, true},
    {"small 16x16x16", 16, 16, 16, false, true},
    {"prefill 32x2304x768", 32, 2304, 768, false, true},
    {"prefill 128x2304x768", 128, 2304, 768, false, true},
    {"decode 1x50257x768", 1, 50257, 768, false, true},
    {"decode 1x3072x768", 1, 3072, 768, false, true},
    {"decode 4x50257x768", 4, 50257, 768, false, true},
    {"decode 8x50257x768", 8, 50257, 768, false, true},
    {"decode_rows 1x50257x768", 1, 50257, 768, false, false},
    {"decode_rows 4x50257x768", 4, 50257, 768, false, false},
};

template <class T>
std::vector<T> random_values(int64_t count) {
  std::mt19937 random(1);
  std::vector<T> values(count);
  for (T& value : values) value = T(static_cast<float>(random() % 2048) / 1024.0f - 1.0f);
  return values;
}

template <class T>
struct Operands {
  std::vector<T> a, b;
  std::vector<float> c;
  int64_t lda, ldb, ldc;

  explicit Operands(const Shape& s)
      : a(random_values<T>(s.m * s.k)),
        b(random_values<T>(s.k * s.n)),
        c(s.m * s.n),
        lda(s.trans_a ? s.m : s.k),
        ldb(s.trans_b ? s.k : s.n),
        ldc(s.n) {}
};

double peak() {
  static const double measured = fma_peak(num_threads());
  return measured;
}

template <class Call>
void time_product(benchmark::State& state, const Shape& s, int64_t weight_bytes, const Call& call) {
  call();
  double best = 1e30;
  for (auto _ : state) {
    const double begin = seconds_now();
    call();
    best = std::min(best, seconds_now() - begin);
  }
  const double rate = 2e-9 * static_cast<double>(s.m * s.n) * static_cast<double>(s.k) / best;
  state.counters["GFLOPs"] = rate;
  state.counters["peak"] = rate / peak();
  state.counters["GBs"] = 1e-9 * static_cast<double>(s.n * s.k * weight_bytes) / best;
}

template <class T>
void run_ondol(benchmark::State& state, const Shape& s) {
  Operands<T> data(s);
  GemmArgs args{};
  args.a = data.a.data(), args.b = data.b.data(), args.c = data.c.data();
  args.c_dtype = DType::f32;
  args.trans_a = s.trans_a, args.trans_b = s.trans_b;
  args.m = s.m, args.n = s.n, args.k = s.k;
  args.lda = data.lda, args.ldb = data.ldb, args.ldc = data.ldc;
  args.batch = 1;
  args.alpha = 1.0f;
  const auto gemm = kernel_table(Device{}).gemm.get(dtype_of<T>::value);
  time_product(state, s, sizeof(T), [&] { gemm(args, nullptr); });
}

void run_eigen(benchmark::State& state, const Shape& s) {
  using Matrix = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
  Operands<float> data(s);
  Matrix a(data.a.data(), s.trans_a ? s.k : s.m, data.lda), b(data.b.data(), s.trans_b ? s.n : s.k, data.ldb);
  Matrix c(data.c.data(), s.m, s.n);
  Eigen::setNbThreads(num_threads());
  time_product(state, s, 4, [&] {
    if (s.trans_a) {
      c.noalias() = a.transpose() * b;
    } else if (s.trans_b) {
      c.noalias() = a * b.transpose();
    } else {
      c.noalias() = a * b;
    }
  });
}

void run_openblas(benchmark::State& state, const Shape& s, CblasSgemm sgemm) {
  constexpr int kRowMajor = 101, kNoTrans = 111, kTrans = 112;
  Operands<float> data(s);
  time_product(state, s, 4, [&] {
    sgemm(kRowMajor, s.trans_a ? kTrans : kNoTrans, s.trans_b ? kTrans : kNoTrans, static_cast<int>(s.m),
          static_cast<int>(s.n), static_cast<int>(s.k), 1.0f, data.a.data(), static_cast<int>(data.lda), data.b.data(),
          static_cast<int>(data.ldb), 0.0f, data.c.data(), static_cast<int>(data.ldc));
  });
}

void run_dnnl(benchmark::State& state, const Shape& s, DnnlSgemm sgemm) {
  Operands<float> data(s);
  time_product(state, s, 4, [&] {
    sgemm(s.trans_a ? 'T' : 'N', s.trans_b ? 'T' : 'N', s.m, s.n, s.k, 1.0f, data.a.data(), data.lda, data.b.data(),
          data.ldb, 0.0f, data.c.data(), data.ldc);
  });
}

void register_all() {
  const auto openblas = find_function<CblasSgemm>("libopenblas.so.0", "cblas_sgemm");
  const auto dnnl = find_function<DnnlSgemm>("libdnnl.so.2", "dnnl_sgemm");
  for (const Shape& s : kShapes) {
    const auto add = [&s](const char* who, auto run) {
      benchmark::RegisterBenchmark((std::string(who) + "/" + s.name).c_str(), run)
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
    };
    add("ondol/f32", [&s](benchmark::State& state) { run_ondol<float>(state, s); });
    add("ondol/bf16", [&s](benchmark::State& state) { run_ondol<bfloat16>(state, s); });
    add("eigen/f32", [&s](benchmark::State& state) { run_eigen(state, s); });
    if (openblas != nullptr) {
      add("openblas/f32", [&s, openblas](benchmark::State& state) { run_openblas(state, s, openblas); });
    }
    if (dnnl != nullptr) add("onednn/f32", [&s, dnnl](benchmark::State& state) { run_dnnl(state, s, dnnl); });
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
