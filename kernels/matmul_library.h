// Matrix products of a vendor's library (cuBLASLt) as the gemm row uses them. One class stands between the two, so that
// the row's mapping, its epilogues and its choice of algorithms are tested without a GPU: tests/support/cuda_emulation
// has a library of its own that computes what the vendor's documentation says.
//
// Column-major throughout: element (i, j) of a matrix with leading dimension ld lies at i + j * ld.
//   D = epilogue(alpha op(A) op(B) + beta C + bias),  op(A) (m, k), op(B) (k, n), C and D (m, n), bias (m)
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "backend/kernel_table.h"

namespace ondol::ONDOL_CUDA_SPACE {

/// GELU is the tanh form. The aux forms also write the value before the activation.
enum class MatmulEpilogue : int { none, bias, gelu, gelu_bias, gelu_aux, gelu_aux_bias, relu, relu_bias };

/// Everything that the choice of an algorithm may depend on; aux has the layout of D.
struct MatmulProblem {
  DType in_dtype, out_dtype;  // A, B and bias; C, D and aux
  bool trans_a, trans_b;      // op(X) is the transpose of what lies in memory
  bool reads_c;               // beta is not 0
  MatmulEpilogue epilogue;
  int64_t m, n, k;
  int64_t lda, ldb, ldd;  // of A and B as they lie in memory; C and D alike
  int64_t batch, stride_a, stride_b, stride_d;
  int alignment_a, alignment_b, alignment_c, alignment_d, alignment_bias;  // bytes, 1 to 16

  using Key = std::array<int64_t, 21>;
  Key key() const;
};

struct MatmulOperands {
  const void *a, *b, *c;
  void* d;
  const void* bias;
  void* aux;
  float alpha, beta;
};

/// Opaque, valid for one version of the library on one kind of GPU.
struct MatmulAlgorithm {
  std::array<uint64_t, 8> words;
  uint64_t workspace_bytes;
};

class MatmulLibrary {
 public:
  virtual ~MatmulLibrary() = default;

  /// GPU and library version: what an algorithm is good for.
  virtual std::string identity(Stream stream) = 0;
  /// Algorithms for a problem, the most promising first; none when the library does not take it.
  virtual std::vector<MatmulAlgorithm> candidates(const MatmulProblem& problem, Stream stream) = 0;
  /// True when this algorithm (read from a file) may be used for the problem.
  virtual bool accepts(const MatmulProblem& problem, const MatmulAlgorithm& algorithm, Stream stream) = 0;
  /// False when the library refuses; nothing has been started then.
  virtual bool run(const MatmulProblem& problem, const MatmulAlgorithm& algorithm, const MatmulOperands& operands,
                   Stream stream) = 0;
  /// Seconds of one run, or a negative number when it cannot be measured now (a stream that is being captured).
  virtual double measure(const MatmulProblem& problem, const MatmulAlgorithm& algorithm, const MatmulOperands& operands,
                         Stream stream) = 0;
};

/// The library of this process, or null when there is none.
MatmulLibrary* matmul_library();

/// Does a product that is not empty with the library; false when there is none or it refuses (gemm_library.cu).
bool library_gemm(const GemmArgs& args, DType dtype, Stream stream);

}  // namespace ondol::ONDOL_CUDA_SPACE
