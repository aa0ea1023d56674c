#include "reference_products.h"

#include <cmath>
#include <cstring>

#include <ondol/base/error.h>

#include "matmul_library.h"
#include "recording.h"

namespace ondol::emulation {

ReferenceProducts& reference_products() {
  static ReferenceProducts instance;
  return instance;
}

}  // namespace ondol::emulation

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

double load(const void* data, DType dtype, int64_t at) {
  return dtype == DType::f32 ? static_cast<const float*>(data)[at]
                             : static_cast<double>(static_cast<float>(static_cast<const bfloat16*>(data)[at]));
}

void store(void* data, DType dtype, int64_t at, double value) {
  if (dtype == DType::f32) {
    static_cast<float*>(data)[at] = static_cast<float>(value);
  } else {
    static_cast<bfloat16*>(data)[at] = bfloat16(static_cast<float>(value));
  }
}

bool has_bias(MatmulEpilogue e) {
  return e == MatmulEpilogue::bias || e == MatmulEpilogue::gelu_bias || e == MatmulEpilogue::gelu_aux_bias ||
         e == MatmulEpilogue::relu_bias;
}
bool has_aux(MatmulEpilogue e) { return e == MatmulEpilogue::gelu_aux || e == MatmulEpilogue::gelu_aux_bias; }

double activate(MatmulEpilogue e, double x) {
  if (e == MatmulEpilogue::relu || e == MatmulEpilogue::relu_bias) return x > 0.0 || std::isnan(x) ? x : 0.0;
  if (e == MatmulEpilogue::none || e == MatmulEpilogue::bias) return x;
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
}

/// Three algorithms, of which the last is the fastest and the middle one fails when it is run.
class ReferenceLibrary final : public MatmulLibrary {
 public:
  std::string identity(Stream) override { return emulation::reference_products().identity; }

  std::vector<MatmulAlgorithm> candidates(const MatmulProblem& p, Stream) override {
    if (!takes(p)) return {};
    return {{{1}, 0}, {{2}, 64}, {{3, 0xfedcba9876543210u}, 1u << 20}};
  }

  bool accepts(const MatmulProblem& p, const MatmulAlgorithm& algorithm, Stream) override {
    return takes(p) && algorithm.words[0] >= 1 && algorithm.words[0] <= 3;
  }

  bool run(const MatmulProblem& p, const MatmulAlgorithm& algorithm, const MatmulOperands& o, Stream) override {
    check(p, o);
    if (algorithm.words[0] == 2) return false;
    ++emulation::reference_products().runs;
    emulation::reference_products().last_algorithm = algorithm.words[0];
    emulation::submit([p, o] {
      for (int64_t t = 0; t < p.batch; ++t) {
        for (int64_t j = 0; j < p.n; ++j) {
          for (int64_t i = 0; i < p.m; ++i) run_element(p, o, t, i, j);
        }
      }
    });
    return true;
  }

  double measure(const MatmulProblem& p, const MatmulAlgorithm& algorithm, const MatmulOperands& o,
                 Stream stream) override {
    ++emulation::reference_products().measured;
    return run(p, algorithm, o, stream) ? 1.0 / static_cast<double>(algorithm.words[0]) : INFINITY;
  }

 private:
  /// As cuBLASLt: no GELU on f32 data, vectors of eight elements for aux.
  static bool takes(const MatmulProblem& p) {
    if (p.in_dtype == DType::f32 && (has_aux(p.epilogue) || p.epilogue == MatmulEpilogue::gelu)) return false;
    return p.m % 2 == 0 || p.in_dtype == DType::f32;  // bf16 columns start at multiples of four bytes
  }

  static void require(bool condition, const char* what) {
    if (!condition) throw_error("reference products: ", what);
  }

  static void check(const MatmulProblem& p, const MatmulOperands& o) {
    require(p.m > 0 && p.n > 0 && p.k > 0 && p.batch > 0, "an empty problem");
    require(p.lda >= (p.trans_a ? p.k : p.m), "lda is less than the rows of A");
    require(p.ldb >= (p.trans_b ? p.n : p.k), "ldb is less than the rows of B");
    require(p.ldd >= p.m, "ldd is less than the rows of D");
    require(o.c != nullptr && (p.reads_c == (o.beta != 0.0f)), "C and beta do not agree");
    require(has_bias(p.epilogue) == (o.bias != nullptr), "bias and epilogue do not agree");
    require(o.bias == nullptr || p.in_dtype == p.out_dtype, "the bias has not the dtype of D");
    require(has_aux(p.epilogue) == (o.aux != nullptr), "aux and epilogue do not agree");
    require(!has_aux(p.epilogue) || (p.ldd % 8 == 0 && p.stride_d % 8 == 0), "aux needs ld and stride in eights");
    const auto aligned = [](const void* pointer, int bytes) {
      return reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(bytes) == 0;
    };
    require(aligned(o.a, p.alignment_a) && aligned(o.b, p.alignment_b) && aligned(o.c, p.alignment_c) &&
                aligned(o.d, p.alignment_d) && aligned(o.aux, p.alignment_d) && aligned(o.bias, p.alignment_bias),
            "an operand is not aligned as announced");
  }

  static void run_element(const MatmulProblem& p, const MatmulOperands& o, int64_t t, int64_t i, int64_t j) {
    double sum = 0.0;
    for (int64_t l = 0; l < p.k; ++l) {
      sum += load(o.a, p.in_dtype, t * p.stride_a + (p.trans_a ? l + i * p.lda : i + l * p.lda)) *
             load(o.b, p.in_dtype, t * p.stride_b + (p.trans_b ? j + l * p.ldb : l + j * p.ldb));
    }
    const int64_t at = t * p.stride_d + i + j * p.ldd;
    double value = o.alpha * sum;
    if (p.reads_c) value += o.beta * load(o.c, p.out_dtype, at);
    if (has_bias(p.epilogue)) value += load(o.bias, p.in_dtype, i);
    if (has_aux(p.epilogue)) store(o.aux, p.out_dtype, at, value);
    store(o.d, p.out_dtype, at, activate(p.epilogue, value));
  }
};

}  // namespace

MatmulLibrary* matmul_library() {
  static ReferenceLibrary instance;
  return emulation::reference_products().available ? &instance : nullptr;
}

}  // namespace ondol::ONDOL_CUDA_SPACE
