#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include <ondol/base/file.h>
#include <ondol/base/parallel.h>

#include "backend/kernel_tables.h"
#include "support/cuda_emulation/reference_products.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

/// A gemm entry of the emulated table with a library behind it.
template <DType kType>
void gemm_with_library(const GemmArgs& args, Stream stream) {
  struct Available {
    Available() { emulation::reference_products().available = true; }
    ~Available() { emulation::reference_products().available = false; }
  } const available;
  emulated_cuda_table().gemm.get(kType)(args, stream);
}

std::vector<NamedTable>& tables() {
  static std::vector<NamedTable> list = [] {
    setenv("ONDOL_TUNE_PRODUCTS", "0", 1);
    std::vector<NamedTable> all = kernel_tables_under_test();
    all.push_back({"emulated cuda with a library", emulated_cuda_table(), true, true});
    all.back().table.gemm.set(DType::f32, gemm_with_library<DType::f32>);
    all.back().table.gemm.set(DType::bf16, gemm_with_library<DType::bf16>);
    return all;
  }();
  return list;
}

struct Case {
  int64_t m, n, k;
  bool trans_a = false, trans_b = false;
  DType dtype = DType::f32, c_dtype = DType::f32;
  float alpha = 1.0f, beta = 0.0f;
  bool bias = false, residual = false, pre_activation = false;
  GemmEpilogue epilogue = GemmEpilogue::none;
  int64_t batch = 1;
  int64_t extra_stride = 0;  // padding of every row
  bool broadcast_b = false;
  bool residual_is_c = false;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "m=" << c.m << " n=" << c.n << " k=" << c.k << (c.trans_a ? " A^T" : "") << (c.trans_b ? " B^T" : "")
             << " " << dtype_name(c.dtype) << "->" << dtype_name(c.c_dtype) << " alpha=" << c.alpha
             << " beta=" << c.beta << " bias=" << c.bias << " residual=" << c.residual << " pre=" << c.pre_activation
             << " epilogue=" << static_cast<int>(c.epilogue) << " batch=" << c.batch << " pad=" << c.extra_stride
             << " broadcast_b=" << c.broadcast_b << " in_place=" << c.residual_is_c;
}

/// Values of the given dtype, kept as raw bytes and as the exact doubles they stand for.
struct Data {
  std::vector<uint8_t> bytes;
  std::vector<double> values;

  Data(int64_t count, DType dtype, std::mt19937& random) : bytes(count * dtype_size(dtype)), values(count) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < count; ++i) {
      const float value = normal(random);
      if (dtype == DType::f32) {
        reinterpret_cast<float*>(bytes.data())[i] = value;
        values[i] = value;
      } else {
        const bfloat16 small(value);
        reinterpret_cast<bfloat16*>(bytes.data())[i] = small;
        values[i] = static_cast<float>(small);
      }
    }
  }
};

double read(const std::vector<uint8_t>& bytes, DType dtype, int64_t i) {
  return dtype == DType::f32 ? reinterpret_cast<const float*>(bytes.data())[i]
                             : static_cast<float>(reinterpret_cast<const bfloat16*>(bytes.data())[i]);
}

double activate(GemmEpilogue kind, double x) {
  switch (kind) {
    case GemmEpilogue::none:
      return x;
    case GemmEpilogue::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case GemmEpilogue::gelu_erf:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case GemmEpilogue::relu:
      return std::max(x, 0.0);
    case GemmEpilogue::silu:
      return x / (1 + std::exp(-x));
  }
  return x;
}

struct Problem {
  Case c;
  int64_t lda, ldb, ldc, stride_a, stride_b, stride_c;
  Data a, b, bias, residual, initial;

  static int64_t matrix(int64_t rows, int64_t ld) { return rows * ld + 3; }

  Problem(const Case& test, std::mt19937& random)
      : c(test),
        lda((c.trans_a ? c.m : c.k) + c.extra_stride),
        ldb((c.trans_b ? c.k : c.n) + c.extra_stride),
        ldc(c.n + c.extra_stride),
        stride_a(matrix(c.trans_a ? c.k : c.m, lda)),
        stride_b(c.broadcast_b ? 0 : matrix(c.trans_b ? c.n : c.k, ldb)),
        stride_c(matrix(c.m, ldc)),
        a(stride_a * c.batch, c.dtype, random),
        b(matrix(c.trans_b ? c.n : c.k, ldb) * c.batch, c.dtype, random),
        bias(c.n, c.dtype, random),
        residual(stride_c * c.batch, c.c_dtype, random),
        initial(stride_c * c.batch, c.c_dtype, random) {}

  GemmArgs args(std::vector<uint8_t>& out, std::vector<uint8_t>& before) const {
    GemmArgs g{};
    g.a = a.bytes.data();
    g.b = b.bytes.data();
    g.c = out.data();
    g.c_dtype = c.c_dtype;
    g.trans_a = c.trans_a;
    g.trans_b = c.trans_b;
    g.m = c.m, g.n = c.n, g.k = c.k;
    g.lda = lda, g.ldb = ldb, g.ldc = ldc;
    g.batch = c.batch;
    g.stride_a = stride_a, g.stride_b = stride_b, g.stride_c = stride_c;
    g.alpha = c.alpha, g.beta = c.beta;
    if (c.bias) g.bias = bias.bytes.data();
    if (c.residual) g.residual = c.residual_is_c ? static_cast<const void*>(out.data()) : residual.bytes.data();
    g.epilogue = c.epilogue;
    if (c.pre_activation) g.pre_activation = before.data();
    return g;
  }

  void check(const std::vector<uint8_t>& out, const std::vector<uint8_t>& before, const NamedTable& table) const {
    const std::string& isa = table.isa;
    const double rounding = c.c_dtype == DType::bf16 ? 1.0 / 256 : 0;
    std::vector<bool> written(stride_c * c.batch, false);
    for (int64_t t = 0; t < c.batch; ++t) {
      for (int64_t i = 0; i < c.m; ++i) {
        for (int64_t j = 0; j < c.n; ++j) {
          double sum = 0, magnitude = 0;
          for (int64_t l = 0; l < c.k; ++l) {
            const double product = a.values[t * stride_a + (c.trans_a ? l * lda + i : i * lda + l)] *
                                   b.values[t * stride_b + (c.trans_b ? j * ldb + l : l * ldb + j)];
            sum += product;
            magnitude += std::fabs(product);
          }
          const int64_t at = t * stride_c + i * ldc + j;
          written[at] = true;
          const double pre = c.alpha * sum + (c.bias ? bias.values[j] : 0);
          double expected = activate(c.epilogue, pre) + c.beta * initial.values[at];
          if (c.residual) expected += c.residual_is_c ? initial.values[at] : residual.values[at];
          double tolerance = 2e-6 * (magnitude * std::fabs(c.alpha) + std::fabs(expected) + 1);
          if (table.library) tolerance += rounding * std::fabs(pre);  // rounded in between, see gemm_library.cu
          ASSERT_NEAR(read(out, c.c_dtype, at), expected, tolerance + rounding * std::fabs(expected))
              << isa << " " << c << " at " << t << "," << i << "," << j;
          if (c.pre_activation) {
            ASSERT_NEAR(read(before, c.c_dtype, at), pre, tolerance + rounding * std::fabs(pre)) << isa << " " << c;
          }
        }
      }
    }
    for (int64_t at = 0; at < stride_c * c.batch; ++at) {
      if (!written[at]) {
        ASSERT_EQ(read(out, c.c_dtype, at), initial.values[at]) << isa << " " << c << " wrote at " << at;
      }
    }
  }
};

/// Every instruction set, with one, two and five threads (which cut a product in different ways): right within
/// rounding, equal to the byte between thread counts.
void run_case(const Case& c) {
  static std::mt19937 random(7);
  const Problem problem(c, random);
  std::vector<uint8_t> first;
  for (const NamedTable& named : tables()) {
    if (named.emulated && c.batch * c.m * c.n * c.k > 400000) continue;
    for (int threads : named.emulated ? std::vector<int>{1} : std::vector<int>{1, 2, 5}) {
      const int saved = num_threads();
      set_num_threads(threads);
      std::vector<uint8_t> out = problem.initial.bytes, before = problem.initial.bytes;
      const GemmArgs args = problem.args(out, before);
      named.table.gemm.get(c.dtype)(args, nullptr);
      set_num_threads(saved);
      if (threads == 1) {
        problem.check(out, before, named);
        first = out;
      } else {
        ASSERT_EQ(std::memcmp(out.data(), first.data(), out.size()), 0) << named.isa << " " << c;
      }
    }
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(Gemm, OddShapesInEveryOrientation) {
  const uint64_t products_before = emulation::reference_products().runs;
  const int64_t sizes[] = {0, 1, 3, 17, 31, 64, 65, 129};
  std::mt19937 random(3);  // draws orientation, dtypes and padding for each shape
  for (int64_t m : sizes) {
    for (int64_t n : sizes) {
      for (int64_t k : sizes) {
        Case c{m, n, k};
        c.trans_a = random() & 1;
        c.trans_b = random() & 1;
        c.dtype = random() & 1 ? DType::bf16 : DType::f32;
        c.c_dtype = random() & 1 ? c.dtype : DType::f32;
        c.extra_stride = static_cast<int64_t>(random() % 3) * 5;
        run_case(c);
        if (HasFatalFailure()) return;
      }
    }
  }
  EXPECT_GT(emulation::reference_products().runs, products_before + 150) << "the library was not used";
}

TEST(Gemm, EveryCombinationOfTheEpilogue) {
  for (int bits = 0; bits < 32; ++bits) {
    for (int epilogue = 0; epilogue < 5; ++epilogue) {
      for (int dtypes = 0; dtypes < 3; ++dtypes) {
        Case c{19, 45, 70};
        c.bias = bits & 1;
        c.residual = bits & 2;
        c.pre_activation = bits & 4;
        c.trans_a = bits & 8;
        c.trans_b = bits & 16;
        c.epilogue = static_cast<GemmEpilogue>(epilogue);
        c.dtype = dtypes == 0 ? DType::f32 : DType::bf16;
        c.c_dtype = dtypes == 2 ? DType::bf16 : DType::f32;
        c.alpha = (bits + epilogue) % 3 == 0 ? 0.5f : 1.0f;
        c.beta = c.c_dtype == DType::f32 ? static_cast<float>((bits + epilogue) % 4) * 0.5f : 0.0f;
        c.residual_is_c = c.residual && c.beta == 0.0f && bits % 3 == 0;
        c.m = bits % 5 == 0 ? 3 : 19;
        run_case(c);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Gemm, SeveralBlocksOfKKeepTheSumsInF32) {
  for (int64_t m : {1, 5, 20, 270}) {
    for (int orientation = 0; orientation < 4; ++orientation) {
      for (int dtypes = 0; dtypes < 3; ++dtypes) {
        Case c{m, 41, 1000};
        c.trans_a = orientation & 1;
        c.trans_b = orientation & 2;
        c.dtype = dtypes == 0 ? DType::f32 : DType::bf16;
        c.c_dtype = dtypes == 2 ? DType::bf16 : DType::f32;
        c.residual = m == 20;
        c.residual_is_c = m == 20;
        c.beta = m == 5 && c.c_dtype == DType::f32 ? 1.0f : 0.0f;
        run_case(c);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Gemm, LargeEnoughForSharedPackingAndThreads) {
  for (int orientation = 0; orientation < 8; ++orientation) {
    for (int dtypes = 0; dtypes < 3; ++dtypes) {
      Case c = orientation < 4 ? Case{300, 200, 500} : Case{190, 310, 490};
      c.trans_a = orientation & 1;
      c.trans_b = orientation & 2;
      c.dtype = dtypes == 0 ? DType::f32 : DType::bf16;
      c.c_dtype = dtypes == 2 ? DType::bf16 : DType::f32;
      c.bias = true;
      c.epilogue = GemmEpilogue::gelu_tanh;
      c.pre_activation = orientation & 1;
      c.residual = orientation >= 4;
      run_case(c);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Gemm, BeyondOneChunkInEveryDimension) {
  Case wide{261, 4200, 9};
  wide.trans_b = true;
  run_case(wide);
  Case tall{4200, 33, 9};
  tall.trans_a = true;
  run_case(tall);
  Case deep{261, 5, 4500};
  deep.dtype = deep.c_dtype = DType::bf16;
  deep.bias = true;
  run_case(deep);
  deep.dtype = deep.c_dtype = DType::f32;
  deep.bias = false;
  deep.beta = 1.0f;
  run_case(deep);
}

TEST(Gemm, FewRowsWithWholeVectors) {
  for (const int64_t m : {1, 3, 8}) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{72, 264}, {264, 40}, {16, 1032}}) {
      for (int kind = 0; kind < 6; ++kind) {
        Case c{m, n, k};
        c.trans_b = kind & 1;
        c.dtype = kind < 2 ? DType::f32 : DType::bf16;
        c.c_dtype = kind < 4 ? DType::f32 : DType::bf16;
        c.extra_stride = m % 2 * 8;
        c.bias = n == 72;
        c.residual = k == 40;
        c.epilogue = n == 72 ? GemmEpilogue::gelu_tanh : GemmEpilogue::none;
        c.pre_activation = n == 72;
        c.beta = c.c_dtype == DType::f32 && n == 16 ? 1.0f : 0.0f;
        run_case(c);
        if (HasFatalFailure()) return;
      }
    }
  }
}

/// Enough tiles for the large ones of the CUDA kernel, in every orientation; rows that begin anywhere, too.
TEST(Gemm, LargeTilesOnTheDevice) {
  std::mt19937 random(13);
  const KernelTable& table = emulated_cuda_table();
  for (int orientation = 0; orientation < 4; ++orientation) {
    for (int dtypes = 0; dtypes < 3; ++dtypes) {
      Case c{250, 120, orientation == 0 ? 133 : 40};
      c.batch = 55;  // 110 tiles of 128 x 128
      c.trans_a = orientation & 1;
      c.trans_b = orientation & 2;
      c.dtype = dtypes == 0 ? DType::f32 : DType::bf16;
      c.c_dtype = dtypes == 2 ? DType::bf16 : DType::f32;
      c.extra_stride = orientation == 3 ? 8 : 0;
      c.bias = dtypes != 1;
      c.beta = dtypes == 1 ? 1.0f : 0.0f;
      Problem problem(c, random);
      if ((orientation + dtypes) % 2 == 0)
        problem.stride_a -= 3, problem.stride_b -= 3, problem.stride_c -= 3;  // aligned
      std::vector<uint8_t> out = problem.initial.bytes, before;
      table.gemm.get(c.dtype)(problem.args(out, before), nullptr);
      problem.check(out, before, {"emulated cuda", table, true});
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Gemm, Batches) {
  for (bool broadcast : {false, true}) {
    Case c{33, 20, 40};
    c.batch = 5;
    c.broadcast_b = broadcast;
    c.trans_b = broadcast;
    c.beta = 1.0f;
    run_case(c);
    c.dtype = DType::bf16;
    c.m = 2;
    run_case(c);
  }
}

/// The sum of an element is one fixed chain: computing fewer rows, or with other instructions, changes no bit of it.
TEST(Gemm, RowsDoNotDependOnTheirNumberNorOnTheInstructionSet) {
  std::mt19937 random(11);
  for (int orientation = 0; orientation < 4; ++orientation) {
    for (DType dtype : {DType::f32, DType::bf16}) {
      Case c{300, 70, 900};
      c.trans_a = orientation & 1;
      c.trans_b = orientation & 2;
      c.dtype = dtype;
      c.bias = true;
      const Problem problem(c, random);
      std::vector<uint8_t> whole;
      for (const NamedTable& named : tables()) {
        if (named.emulated) continue;  // not an instruction set of the CPU
        for (int64_t m : {300, 270, 40, 8, 5, 1}) {
          std::vector<uint8_t> out = problem.initial.bytes, before;
          GemmArgs args = problem.args(out, before);
          args.m = m;
          named.table.gemm.get(dtype)(args, nullptr);
          if (whole.empty()) whole = out;
          ASSERT_EQ(std::memcmp(out.data(), whole.data(), (m * problem.ldc) * sizeof(float)), 0)
              << named.isa << " " << c << " first " << m << " rows";
        }
      }
    }
  }
}

/// A 32 x 24 product over 16, whose residual goes through the library's C.
void run_small_product(Stream stream) {
  std::mt19937 random(5);
  Case c{32, 24, 16};
  c.residual = true;
  const Problem problem(c, random);
  std::vector<uint8_t> out = problem.initial.bytes, before;
  gemm_with_library<DType::f32>(problem.args(out, before), stream);
  problem.check(out, before, tables().back());
}

TEST(Gemm, TheFastestAlgorithmIsKeptOnDisk) {
  tables();
  const testing::TemporaryDirectory directory;
  setenv("XDG_CACHE_HOME", directory.path().c_str(), 1);
  setenv("ONDOL_TUNE_PRODUCTS", "1", 1);
  emulation::ReferenceProducts& library = emulation::reference_products();
  const auto stream = [](uintptr_t number) { return reinterpret_cast<Stream>(number); };
  // A library is known by its GPU and version; streams with the same ones share their choices.
  library.identity = "GPU one/13.1";
  library.last_algorithm = 0;
  run_small_product(stream(1));
  EXPECT_EQ(library.last_algorithm, 3u);
  EXPECT_EQ(library.measured, 3u);
  run_small_product(stream(1));
  run_small_product(stream(2));
  EXPECT_EQ(library.measured, 3u) << "timed again";
  const std::string file = directory / "ondol/products-GPU_one_13.1.txt";
  const std::string stored = directory.read("ondol/products-GPU_one_13.1.txt");
  EXPECT_EQ(std::count(stored.begin(), stored.end(), '\n'), 1) << file;

  // The choice of an earlier process, here another than what would be measured.
  const std::string key = stored.substr(0, stored.find('\t') + 1);
  const auto write = [&](const std::string& name, const std::string& value) {
    const std::string text = key + value;
    directory.write("ondol/products-" + name + ".txt",
                    text + "\t" + std::to_string(crc32(0, text.data(), text.size())) + "\n");
  };
  write("earlier", "1 0 0 0 0 0 0 0 0");
  library.identity = "earlier";
  run_small_product(stream(3));
  EXPECT_EQ(library.last_algorithm, 1u);
  EXPECT_EQ(library.measured, 3u);

  // What the library does not accept, or what is no algorithm at all, is measured anew.
  for (const char* damaged : {"9 0 0 0 0 0 0 0 0", "1 2", "nonsense", ""}) {
    const std::string name = "damaged" + std::to_string(std::string(damaged).size());
    write(name, damaged);
    library.identity = name;
    library.measured = 0;
    run_small_product(stream(100 + std::string(damaged).size()));
    EXPECT_EQ(library.measured, 3u) << damaged;
    EXPECT_EQ(directory.read("ondol/products-" + name + ".txt").find(key + "3 "), 0u) << damaged;
  }
  setenv("ONDOL_TUNE_PRODUCTS", "0", 1);
  library.identity = "untuned";
  library.measured = 0;
  run_small_product(stream(4));
  EXPECT_EQ(library.last_algorithm, 1u) << "the first suggestion, which is always the same";
  EXPECT_EQ(library.measured, 0u);
  unsetenv("XDG_CACHE_HOME");
}

TEST(Gemm, SpecialValuesPassThrough) {
  for (const NamedTable& named : tables()) {
    const float a[] = {INFINITY, 1.0f, NAN, 1.0f}, b[] = {1.0f, 2.0f};
    float c[2] = {};
    GemmArgs g{};
    g.a = a, g.b = b, g.c = c;
    g.m = 2, g.n = 1, g.k = 2;
    g.lda = 2, g.ldb = 1, g.ldc = 1;
    g.batch = 1;
    g.alpha = 1.0f;
    g.epilogue = GemmEpilogue::relu;
    named.table.gemm.get(DType::f32)(g, nullptr);
    EXPECT_EQ(c[0], INFINITY) << named.isa;
    EXPECT_TRUE(std::isnan(c[1])) << named.isa;
  }
}

}  // namespace
}  // namespace ondol
