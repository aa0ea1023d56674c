// cuBLASLt as the MatmulLibrary. The library is opened when the first product runs, so that the program starts without
// it; then, and where it refuses a problem, the project's own kernel does the work.
//
// Precision: sums in f32 (CUBLAS_COMPUTE_32F: no TF32, no emulated f32), parts of a split sum are added in f32. Memory:
// one workspace of kWorkspaceBytes for each stream, allocated before anything is captured, so that the choice of
// algorithms, and with it every bit of the result, does not depend on how much memory happens to be free.
#include <limits>
#include <map>
#include <memory>
#include <mutex>

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include "launch.h"
#include "matmul_library.h"
#include "runtime/vendor_libraries.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;
constexpr int kMaxCandidates = 8;
constexpr int kTimedRuns = 5;

/// The entry points that are used, looked up by name.
struct Api {
  decltype(&cublasLtGetVersion) get_version = nullptr;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic = nullptr;
  decltype(&cublasLtMatmulAlgoCheck) check = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  bool complete = false;

  Api() {
    void* library = dlopen(concat("libcublasLt.so.", CUBLAS_VER_MAJOR).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      library =
          dlopen(concat(ONDOL_CUDA_LIBRARY_DIR, "/libcublasLt.so.", CUBLAS_VER_MAJOR).c_str(), RTLD_NOW | RTLD_LOCAL);
    }
    if (library == nullptr) return;
    complete = true;
    const auto load = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      complete = complete && function != nullptr;
    };
    load(get_version, "cublasLtGetVersion");
    load(create, "cublasLtCreate");
    load(matmul, "cublasLtMatmul");
    load(get_heuristic, "cublasLtMatmulAlgoGetHeuristic");
    load(check, "cublasLtMatmulAlgoCheck");
    load(desc_create, "cublasLtMatmulDescCreate");
    load(desc_destroy, "cublasLtMatmulDescDestroy");
    load(desc_set, "cublasLtMatmulDescSetAttribute");
    load(layout_create, "cublasLtMatrixLayoutCreate");
    load(layout_destroy, "cublasLtMatrixLayoutDestroy");
    load(layout_set, "cublasLtMatrixLayoutSetAttribute");
    load(preference_create, "cublasLtMatmulPreferenceCreate");
    load(preference_destroy, "cublasLtMatmulPreferenceDestroy");
    load(preference_set, "cublasLtMatmulPreferenceSetAttribute");
  }
};

const Api& api() {
  static const Api loaded;
  return loaded;
}

void check_status(cublasStatus_t status, const char* call) {
  ONDOL_CHECK(status == CUBLAS_STATUS_SUCCESS, "[gemm] cuBLASLt: status ", static_cast<int>(status), " (", call, ")");
}

cudaDataType_t cuda_type(DType dtype) { return dtype == DType::f32 ? CUDA_R_32F : CUDA_R_16BF; }

cublasLtEpilogue_t cublas_epilogue(MatmulEpilogue epilogue) {
  switch (epilogue) {
    case MatmulEpilogue::none:
      return CUBLASLT_EPILOGUE_DEFAULT;
    case MatmulEpilogue::bias:
      return CUBLASLT_EPILOGUE_BIAS;
    case MatmulEpilogue::gelu:
      return CUBLASLT_EPILOGUE_GELU;
    case MatmulEpilogue::gelu_bias:
      return CUBLASLT_EPILOGUE_GELU_BIAS;
    case MatmulEpilogue::gelu_aux:
      return CUBLASLT_EPILOGUE_GELU_AUX;
    case MatmulEpilogue::gelu_aux_bias:
      return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    case MatmulEpilogue::relu:
      return CUBLASLT_EPILOGUE_RELU;
    case MatmulEpilogue::relu_bias:
      return CUBLASLT_EPILOGUE_RELU_BIAS;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

/// A descriptor of the library, destroyed at the end of the scope.
template <class Handle>
class Scoped {
 public:
  explicit Scoped(cublasStatus_t (*destroy)(Handle)) : destroy_(destroy) {}
  ~Scoped() {
    if (handle != nullptr) destroy_(handle);
  }
  Scoped(const Scoped&) = delete;
  Scoped& operator=(const Scoped&) = delete;
  Handle handle = nullptr;

 private:
  cublasStatus_t (*destroy_)(Handle);
};

struct Layout : Scoped<cublasLtMatrixLayout_t> {
  Layout(DType dtype, int64_t rows, int64_t cols, int64_t ld, int64_t batch, int64_t stride)
      : Scoped(api().layout_destroy) {
    check_status(
        api().layout_create(&handle, cuda_type(dtype), static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), ld),
        "layout");
    if (batch == 1) return;
    const auto count = static_cast<int32_t>(batch);
    check_status(api().layout_set(handle, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count)), "batch");
    check_status(api().layout_set(handle, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof(stride)),
                 "batch stride");
  }
};

/// All descriptors of one problem.
struct Descriptors {
  Descriptors(const MatmulProblem& p, const void* bias, void* aux)
      : a(p.in_dtype, p.trans_a ? p.k : p.m, p.trans_a ? p.m : p.k, p.lda, p.batch, p.stride_a),
        b(p.in_dtype, p.trans_b ? p.n : p.k, p.trans_b ? p.k : p.n, p.ldb, p.batch, p.stride_b),
        d(p.out_dtype, p.m, p.n, p.ldd, p.batch, p.stride_d),
        operation(api().desc_destroy) {
    check_status(api().desc_create(&operation.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation");
    set(CUBLASLT_MATMUL_DESC_TRANSA, static_cast<int32_t>(p.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N));
    set(CUBLASLT_MATMUL_DESC_TRANSB, static_cast<int32_t>(p.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(cublas_epilogue(p.epilogue)));
    if (bias != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    if (aux != nullptr) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.ldd);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, p.stride_d);
    }
  }

  Layout a, b, d;  // C has the layout of D
  Scoped<cublasLtMatmulDesc_t> operation;

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check_status(api().desc_set(operation.handle, attribute, &value, sizeof(value)), "operation attribute");
  }
};

/// A pointer of the problem's alignment, for calls that look at the alignment alone.
void* aligned_address(int alignment) { return reinterpret_cast<void*>(static_cast<uintptr_t>(4096 + alignment)); }

/// With pointers that have the problem's alignment, for questions about algorithms.
Descriptors describe(const MatmulProblem& p) {
  const auto epilogue = static_cast<uint32_t>(cublas_epilogue(p.epilogue));
  return {p, (epilogue & CUBLASLT_EPILOGUE_BIAS) != 0 ? aligned_address(p.alignment_bias) : nullptr,
          (epilogue & 128) != 0 ? aligned_address(p.alignment_d) : nullptr};
}

struct Preference : Scoped<cublasLtMatmulPreference_t> {
  explicit Preference(const MatmulProblem& p) : Scoped(api().preference_destroy) {
    check_status(api().preference_create(&handle), "preference");
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes});
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(p.alignment_a));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(p.alignment_b));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(p.alignment_c));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(p.alignment_d));
  }

 private:
  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    check_status(api().preference_set(handle, attribute, &value, sizeof(value)), "preference attribute");
  }
};

cublasLtMatmulAlgo_t to_cublas(const MatmulAlgorithm& algorithm) {
  cublasLtMatmulAlgo_t out;
  std::copy(algorithm.words.begin(), algorithm.words.end(), out.data);
  return out;
}

/// What belongs to one stream (and so to one device).
struct StreamState {
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
};

class CublasLt final : public MatmulLibrary {
 public:
  std::string identity(Stream) override {
    int device = 0;
    CUDA_CHECK("gemm", cudaGetDevice(&device));
    cudaDeviceProp properties{};
    CUDA_CHECK("gemm", cudaGetDeviceProperties(&properties, device));
    return concat(properties.name, "-", api().get_version());
  }

  std::vector<MatmulAlgorithm> candidates(const MatmulProblem& problem, Stream stream) override {
    if (problem.batch > std::numeric_limits<int32_t>::max()) return {};
    const Descriptors d = describe(problem);
    const Preference preference(problem);
    cublasLtMatmulHeuristicResult_t results[kMaxCandidates] = {};
    int count = 0;
    if (api().get_heuristic(state(stream).handle, d.operation.handle, d.a.handle, d.b.handle, d.d.handle, d.d.handle,
                            preference.handle, kMaxCandidates, results, &count) != CUBLAS_STATUS_SUCCESS) {
      return {};
    }
    std::vector<MatmulAlgorithm> out;
    for (int i = 0; i < count; ++i) {
      if (results[i].state != CUBLAS_STATUS_SUCCESS || results[i].workspaceSize > kWorkspaceBytes) continue;
      MatmulAlgorithm algorithm{{}, results[i].workspaceSize};
      std::copy_n(results[i].algo.data, algorithm.words.size(), algorithm.words.begin());
      out.push_back(algorithm);
    }
    return out;
  }

  bool accepts(const MatmulProblem& problem, const MatmulAlgorithm& algorithm, Stream stream) override {
    const Descriptors d = describe(problem);
    const cublasLtMatmulAlgo_t cublas_algorithm = to_cublas(algorithm);
    cublasLtMatmulHeuristicResult_t result{};
    return api().check(state(stream).handle, d.operation.handle, d.a.handle, d.b.handle, d.d.handle, d.d.handle,
                       &cublas_algorithm, &result) == CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= kWorkspaceBytes;
  }

  bool run(const MatmulProblem& problem, const MatmulAlgorithm& algorithm, const MatmulOperands& o,
           Stream stream) override {
    const Descriptors d(problem, o.bias, o.aux);
    const cublasLtMatmulAlgo_t cublas_algorithm = to_cublas(algorithm);
    const StreamState& s = state(stream);
    return api().matmul(s.handle, d.operation.handle, &o.alpha, o.a, d.a.handle, o.b, d.b.handle, &o.beta, o.c,
                        d.d.handle, o.d, d.d.handle, &cublas_algorithm, s.workspace, kWorkspaceBytes,
                        static_cast<cudaStream_t>(stream)) == CUBLAS_STATUS_SUCCESS;
  }

  double measure(const MatmulProblem& problem, const MatmulAlgorithm& algorithm, const MatmulOperands& operands,
                 Stream stream) override {
    const auto queue = static_cast<cudaStream_t>(stream);
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    CUDA_CHECK("gemm", cudaStreamIsCapturing(queue, &capture));
    if (capture != cudaStreamCaptureStatusNone) return -1.0;
    if (!run(problem, algorithm, operands, stream)) return std::numeric_limits<double>::infinity();
    const Event begin, end;
    CUDA_CHECK("gemm", cudaEventRecord(begin.handle, queue));
    for (int i = 0; i < kTimedRuns; ++i) run(problem, algorithm, operands, stream);
    CUDA_CHECK("gemm", cudaEventRecord(end.handle, queue));
    CUDA_CHECK("gemm", cudaEventSynchronize(end.handle));
    float milliseconds = 0.0f;
    CUDA_CHECK("gemm", cudaEventElapsedTime(&milliseconds, begin.handle, end.handle));
    return milliseconds * 1e-3 / kTimedRuns;
  }

 private:
  struct Event {
    Event() { CUDA_CHECK("gemm", cudaEventCreate(&handle)); }
    ~Event() { cudaEventDestroy(handle); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    cudaEvent_t handle = nullptr;
  };

  const StreamState& state(Stream stream) {
    const std::lock_guard lock(mutex_);
    StreamState& s = states_[stream];
    if (s.handle == nullptr) {
      CUDA_CHECK("gemm", cudaMalloc(&s.workspace, kWorkspaceBytes));
      check_status(api().create(&s.handle), "create");
    }
    return s;
  }

  std::mutex mutex_;
  std::map<Stream, StreamState> states_;  // kept until the process ends
};

}  // namespace

MatmulLibrary* matmul_library() {
  static CublasLt* const instance = api().complete ? new CublasLt() : nullptr;
  return instance;
}

}  // namespace ondol::ONDOL_CUDA_SPACE

namespace ondol {

std::string cublaslt_version() {
  const auto& api = ONDOL_CUDA_SPACE::api();
  if (!api.complete) return "";
  const size_t version = api.get_version();
  return concat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

}  // namespace ondol
