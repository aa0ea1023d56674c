// gemm through a vendor's library: how a product of GemmArgs becomes one of its problems, what is left for a kernel of
// our own behind it, and which of its algorithms is used.
//
// Mapping: row-major c = op(a) op(b) is column-major c^T = op(b)^T op(a)^T, with the same bytes read the other way: the
//          library's A is b, its B is a, and its bias runs along the rows of c^T, which are the columns of c.
// Epilogue: residual (or c itself, when added to) is the library's C; bias, GELU and ReLU are its own where it has them.
//          Otherwise the library writes the product with its bias and gemm_epilogue_kernel does the rest.
// Rounding: a fused epilogue sees f32; one that follows sees the product rounded to the dtype of c, which is also what
//          pre_activation holds.
// Choice:  the candidates of a problem are timed once on the device, the fastest is kept on disk (TuningCache), so that
//          every later run makes the same choice. Without a place on disk the library's first suggestion is taken,
//          which is always the same one.
#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <unordered_map>

#include "backend/tuning_cache.h"
#include "device/block.cuh"
#include "device/product_epilogue.cuh"
#include "launch.h"
#include "matmul_library.h"
#include "workspace.h"

namespace ondol::ONDOL_CUDA_SPACE {

MatmulProblem::Key MatmulProblem::key() const {
  return {static_cast<int64_t>(in_dtype),
          static_cast<int64_t>(out_dtype),
          trans_a,
          trans_b,
          reads_c,
          static_cast<int64_t>(epilogue),
          m,
          n,
          k,
          lda,
          ldb,
          ldd,
          batch,
          stride_a,
          stride_b,
          stride_d,
          alignment_a,
          alignment_b,
          alignment_c,
          alignment_d,
          alignment_bias};
}

namespace {

constexpr int kThreads = 256;

/// What the library's product leaves to do: c = epilogue(raw + bias) + residual, pre = raw + bias.
struct Remainder {
  const void* raw;   // where the library has written, layout of c
  const void* bias;  // nullable
  bool needed;
};

/// kCount neighbours for each thread; n is a multiple of it.
template <class T, class C, int kCount>
__global__ void gemm_epilogue_kernel(GemmArgs args, const void* raw) {
  const int64_t i = global_thread() * kCount;
  if (i >= args.batch * args.m * args.n) return;
  const int64_t row = i / args.n, column = i - row * args.n;
  const int64_t matrix = row / args.m, row_of_matrix = row - matrix * args.m;
  const int64_t at = matrix * args.stride_c + row_of_matrix * args.ldc + column;
  finish_elements<T, C, kCount>(args, matrix, row_of_matrix, column,
                                load_floats<kCount>(static_cast<const C*>(raw) + at));
}

template <class T, class C>
void run_remainder(const GemmArgs& args, const Remainder& rest, Stream stream) {
  constexpr int kWide = kVector128<C>;
  const bool wide = args.n % kWide == 0 && args.ldc % kWide == 0 && args.stride_c % kWide == 0 &&
                    aligned(16, args.c, args.residual, args.pre_activation, rest.raw) &&
                    aligned(kWide * sizeof(T), rest.bias);
  GemmArgs left = args;
  left.alpha = 1.0f;
  left.beta = 0.0f;
  left.bias = rest.bias;
  const int64_t count = args.batch * args.m * args.n / (wide ? kWide : 1);
  launch("gemm", wide ? gemm_epilogue_kernel<T, C, kWide> : gemm_epilogue_kernel<T, C, 1>,
         blocks_for("gemm", count, kThreads), kThreads, 0, stream, left, rest.raw);
}

void run_remainder(const GemmArgs& args, DType dtype, const Remainder& rest, Stream stream) {
  if (dtype == DType::f32) return run_remainder<float, float>(args, rest, stream);
  if (args.c_dtype == DType::f32) return run_remainder<bfloat16, float>(args, rest, stream);
  run_remainder<bfloat16, bfloat16>(args, rest, stream);
}

struct Plan {
  MatmulProblem problem;
  MatmulOperands operands;
  Remainder rest;
};

int alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  return address == 0 ? 16 : static_cast<int>(std::min<uintptr_t>(address & (~address + 1), 16));
}

/// A matrix of `rows` by `cols` (column-major) may have the leading dimension ld; a single column has none.
bool fix_leading(int64_t rows, int64_t cols, int64_t& ld) {
  if (cols == 1) ld = std::max(ld, rows);
  return ld >= rows;
}

/// The product alone, c^T column-major; false when the library has no words for the layout.
bool bare_problem(const GemmArgs& args, DType dtype, MatmulProblem& p) {
  if (args.k == 0) return false;
  p = {};
  p.in_dtype = dtype;
  p.out_dtype = args.c_dtype;
  p.m = args.n, p.n = args.m, p.k = args.k;
  p.trans_a = args.trans_b, p.trans_b = args.trans_a;
  p.lda = args.ldb, p.ldb = args.lda, p.ldd = args.ldc;
  p.batch = args.batch;
  p.stride_a = args.batch > 1 ? args.stride_b : 0;
  p.stride_b = args.batch > 1 ? args.stride_a : 0;
  p.stride_d = args.batch > 1 ? args.stride_c : 0;
  p.alignment_a = alignment_of(args.b);
  p.alignment_b = alignment_of(args.a);
  return fix_leading(p.trans_a ? p.k : p.m, p.trans_a ? p.m : p.k, p.lda) &&
         fix_leading(p.trans_b ? p.n : p.k, p.trans_b ? p.k : p.n, p.ldb) && fix_leading(p.m, p.n, p.ldd);
}

/// The library's epilogue that does the whole of args.epilogue, bias and pre_activation.
bool fused_epilogue(const GemmArgs& args, bool bias, MatmulEpilogue& out) {
  const bool aux = args.pre_activation != nullptr;
  switch (args.epilogue) {
    case GemmEpilogue::none:
      out = bias ? MatmulEpilogue::bias : MatmulEpilogue::none;
      return !aux;
    case GemmEpilogue::relu:
      out = bias ? MatmulEpilogue::relu_bias : MatmulEpilogue::relu;
      return !aux;  // its aux is a bit mask
    case GemmEpilogue::gelu_tanh:
      if (aux) {
        out = bias ? MatmulEpilogue::gelu_aux_bias : MatmulEpilogue::gelu_aux;
        return args.ldc % 8 == 0 && args.stride_c % 8 == 0 && aligned(16, args.pre_activation);
      }
      out = bias ? MatmulEpilogue::gelu_bias : MatmulEpilogue::gelu;
      return true;
    default:
      return false;
  }
}

void finish_plan(Plan& plan, const GemmArgs& args) {
  MatmulProblem& p = plan.problem;
  MatmulOperands& o = plan.operands;
  o.a = args.b, o.b = args.a;
  o.alpha = args.alpha;
  p.reads_c = o.beta != 0.0f;
  if (o.c == nullptr) o.c = o.d;
  p.alignment_c = alignment_of(o.c);
  p.alignment_d = std::min(alignment_of(o.d), alignment_of(o.aux));
  p.alignment_bias = alignment_of(o.bias);
}

/// The ways to put a product to the library, the best one first.
std::vector<Plan> plans_for(const GemmArgs& args, DType dtype) {
  std::vector<Plan> plans;
  MatmulProblem bare;
  if (!bare_problem(args, dtype, bare)) return plans;
  const bool own_bias = args.bias != nullptr && dtype != args.c_dtype;  // the library's bias has the dtype of d
  const bool library_bias = args.bias != nullptr && !own_bias;
  const bool activates = args.epilogue != GemmEpilogue::none;

  // All in one. The library adds C before its activation, so that only a linear product takes a residual along.
  Plan whole{bare, {}, {}};
  const bool one_addend = args.residual == nullptr || (args.beta == 0.0f && !activates);
  if (!own_bias && one_addend && (args.beta == 0.0f || !activates) &&
      fused_epilogue(args, library_bias, whole.problem.epilogue)) {
    whole.operands.d = args.c;
    whole.operands.c = args.residual;
    whole.operands.beta = args.residual != nullptr ? 1.0f : args.beta;
    whole.operands.bias = args.bias;
    whole.operands.aux = args.pre_activation;
    finish_plan(whole, args);
    plans.push_back(whole);
  }

  // The product with its bias, and the rest behind it. c must not be needed in the meantime.
  const bool to_pre = args.pre_activation != nullptr;
  if (args.beta == 0.0f && (to_pre || args.residual != args.c)) {
    Plan split{bare, {}, {}};
    split.problem.epilogue = library_bias ? MatmulEpilogue::bias : MatmulEpilogue::none;
    split.operands.d = to_pre ? args.pre_activation : args.c;
    split.operands.bias = library_bias ? args.bias : nullptr;
    split.rest = {split.operands.d, own_bias ? args.bias : nullptr,
                  own_bias || activates || to_pre || args.residual != nullptr};
    finish_plan(split, args);
    if (plans.empty() || split.rest.needed) plans.push_back(split);
  }
  return plans;
}

struct KeyHash {
  size_t operator()(const MatmulProblem::Key& key) const {
    uint64_t hash = 14695981039346656037u;
    for (const int64_t word : key) hash = (hash ^ static_cast<uint64_t>(word)) * 1099511628211u;
    return hash ^ hash >> 29;
  }
};

std::string key_text(const MatmulProblem::Key& key) {
  std::ostringstream out;
  for (size_t i = 0; i < key.size(); ++i) out << (i > 0 ? " " : "") << key[i];
  return out.str();
}

std::string algorithm_text(const MatmulAlgorithm& algorithm) {
  std::ostringstream out;
  out << std::hex;
  for (const uint64_t word : algorithm.words) out << word << ' ';
  out << algorithm.workspace_bytes;
  return out.str();
}

std::optional<MatmulAlgorithm> parse_algorithm(const std::string& text) {
  std::istringstream in(text);
  in >> std::hex;
  MatmulAlgorithm algorithm{};
  for (uint64_t& word : algorithm.words) in >> word;
  in >> algorithm.workspace_bytes;
  return in ? std::optional(algorithm) : std::nullopt;
}

/// The file of one GPU model and library version: letters, digits and dots of its name.
std::string cache_path(std::string identity) {
  const std::string directory = cache_directory();
  if (directory.empty()) return "";
  for (char& c : identity) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.') c = '_';
  }
  return concat(directory, "/products-", identity, ".txt");
}

bool tuning_enabled() {
  const char* wish = std::getenv("ONDOL_TUNE_PRODUCTS");
  return wish == nullptr || std::string(wish) != "0";
}

/// The algorithms of one library on one kind of GPU.
class Choices {
 public:
  Choices(MatmulLibrary& library, Stream stream)
      : library_(library), disk_(tuning_enabled() ? cache_path(library.identity(stream)) : "") {}

  /// Nothing when the library does not take the problem.
  std::optional<MatmulAlgorithm> find(const Plan& plan, Stream stream) {
    const MatmulProblem::Key key = plan.problem.key();
    const std::lock_guard lock(mutex_);
    if (const auto found = known_.find(key); found != known_.end()) return found->second;
    bool settled = true;
    const std::optional<MatmulAlgorithm> choice = choose(plan, key_text(key), stream, settled);
    if (settled) known_.emplace(key, choice);
    return choice;
  }

  void refuse(const MatmulProblem& problem) {
    const std::lock_guard lock(mutex_);
    known_[problem.key()] = std::nullopt;
  }

 private:
  std::optional<MatmulAlgorithm> choose(const Plan& plan, const std::string& key, Stream stream, bool& settled) {
    const auto stored = disk_.find(key);
    if (stored) {
      const auto algorithm = parse_algorithm(*stored);
      if (algorithm && library_.accepts(plan.problem, *algorithm, stream)) return algorithm;
    }
    const std::vector<MatmulAlgorithm> candidates = library_.candidates(plan.problem, stream);
    if (candidates.empty()) return std::nullopt;
    if (!disk_.writable()) return candidates.front();
    size_t best = 0;
    if (candidates.size() > 1 && !fastest(plan, candidates, stream, best)) {
      settled = false;  // a stream that is being captured: measured another time
      return candidates.front();
    }
    const auto kept = disk_.store(key, algorithm_text(candidates[best]), stored.value_or(""));
    const auto algorithm = kept ? parse_algorithm(*kept) : std::nullopt;
    return algorithm && library_.accepts(plan.problem, *algorithm, stream) ? *algorithm : candidates.front();
  }

  /// Runs write to scratch memory: c may be added to, and must not be added to twice.
  bool fastest(const Plan& plan, const std::vector<MatmulAlgorithm>& candidates, Stream stream, size_t& best) {
    const MatmulProblem& p = plan.problem;
    const int64_t bytes =
        ((p.batch - 1) * p.stride_d + (p.n - 1) * p.ldd + p.m) * static_cast<int64_t>(dtype_size(p.out_dtype));
    double least = std::numeric_limits<double>::infinity();
    try {
      const Workspace<unsigned char> d("gemm", bytes, stream);
      const Workspace<unsigned char> aux("gemm", plan.operands.aux != nullptr ? bytes : 0, stream);
      MatmulOperands operands = plan.operands;
      operands.d = d.data();
      operands.aux = aux.data();
      for (size_t i = 0; i < candidates.size(); ++i) {
        const double seconds = library_.measure(p, candidates[i], operands, stream);
        if (seconds >= 0.0 && seconds < least) {
          least = seconds;
          best = i;
        }
      }
    } catch (const Error&) {  // no memory for a trial
      best = 0;
      return true;
    }
    return least < std::numeric_limits<double>::infinity();
  }

  MatmulLibrary& library_;
  TuningCache disk_;
  std::mutex mutex_;
  std::unordered_map<MatmulProblem::Key, std::optional<MatmulAlgorithm>, KeyHash> known_;
};

/// One for each library and kind of GPU.
Choices& choices_of(MatmulLibrary& library, Stream stream) {
  static std::mutex mutex;
  static std::unordered_map<Stream, std::shared_ptr<Choices>> by_stream;
  static std::unordered_map<std::string, std::shared_ptr<Choices>> by_identity;
  const std::lock_guard lock(mutex);
  std::shared_ptr<Choices>& choices = by_stream[stream];
  if (choices == nullptr) {
    std::shared_ptr<Choices>& shared = by_identity[library.identity(stream)];
    if (shared == nullptr) shared = std::make_shared<Choices>(library, stream);
    choices = shared;
  }
  return *choices;
}

}  // namespace

bool library_gemm(const GemmArgs& args, DType dtype, Stream stream) {
  MatmulLibrary* const library = matmul_library();
  if (library == nullptr) return false;
  Choices& choices = choices_of(*library, stream);
  for (const Plan& plan : plans_for(args, dtype)) {
    const std::optional<MatmulAlgorithm> algorithm = choices.find(plan, stream);
    if (!algorithm) continue;
    if (!library->run(plan.problem, *algorithm, plan.operands, stream)) {
      choices.refuse(plan.problem);
      continue;
    }
    if (plan.rest.needed) run_remainder(args, dtype, plan.rest, stream);
    return true;
  }
  return false;
}

}  // namespace ondol::ONDOL_CUDA_SPACE
