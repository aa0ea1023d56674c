// The op case table: one list of cases (op, shapes, dtype, layout, options), each with inputs made from a counter-based
// generator, the call on a device, and the formula in plain loops as oracle. The same list drives the forward and
// gradient tests, the comparison of instruction sets and devices, and, with large shapes, the benchmark.
//
//   for (const OpCase& c : op_cases()) {
//     const std::vector<Tensor> inputs = build_inputs(c, device);
//     const OpResult r = c.run(inputs, /*gradients=*/true);
//     const std::vector<Array<double>> expected = c.oracle(inputs);
//   }
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ondol/tensor/tensor.h>

#include "support/reference.h"

namespace ondol::testing {

enum class Fill { normal, positive, uniform_ids, given };
/// How the elements lie in memory: in order; last two dimensions swapped; as the inner part of a wider last dimension;
/// in order, but one element behind an address that vectors could start at.
enum class Layout { contiguous, transposed, sliced, shifted };

struct Input {
  Shape shape;
  DType dtype = DType::f32;
  Fill fill = Fill::normal;
  Layout layout = Layout::contiguous;
  bool differentiable = false;
  double scale = 1.0;
  int64_t limit = 0;                // uniform_ids: values in [0, limit)
  std::vector<int32_t> given = {};  // the values, for Fill::given
};

struct OpResult {
  std::vector<Tensor> outputs;
  /// Gradients of the differentiable inputs, in order, from those of the first `grad_outputs` outputs.
  std::function<std::vector<Tensor>(const std::vector<Tensor>& grads)> backward;
};

struct OpCase {
  std::string op;    // for filters and reports: "rms_norm"
  std::string name;  // unique: "rms_norm bf16 (3, 7) residual"
  DType dtype = DType::f32;
  std::vector<Input> inputs;
  std::function<OpResult(const std::vector<Tensor>& inputs, bool gradients)> run;
  std::function<std::vector<Array<double>>(const std::vector<Array<double>>& inputs)> oracle;
  std::function<std::vector<Array<float>>(const std::vector<Array<float>>& inputs)> naive;
  int grad_outputs = 0;        // outputs that a gradient can reach; 0: the case has no backward
  bool unit_gradient = false;  // the backward is defined for gradients of 1 only (losses)
  double cancellation = 0;     // size of the terms that cancel in the backward, for upstream gradients of size 1
  bool exact = false;          // outputs must equal the oracle's, rounded
  double flops = 0;            // for the benchmark, where arithmetic is the limit
};

/// The generator's numbers for input `index` of a case, in its layout, on the device.
std::vector<Tensor> build_inputs(const OpCase& c, Device device = {});
std::vector<Array<double>> oracle_inputs(const std::vector<Tensor>& inputs);
std::vector<Array<float>> naive_inputs(const std::vector<Tensor>& inputs);

/// Sets oracle and naive from one generic function (inputs, Round) -> outputs.
template <class Function>
void set_reference(OpCase& c, Function function) {
  const bool narrow = c.dtype == DType::bf16;
  c.oracle = [function](const std::vector<Array<double>>& in) { return function(in, Round{}); };
  c.naive = [function, narrow](const std::vector<Array<float>>& in) { return function(in, Round{narrow}); };
}

/// All cases of the tests: small, odd and empty sizes, and some large enough to be shared between threads.
std::vector<OpCase> op_cases();
/// Those of op_cases() that $ONDOL_OP_CASES (a part of the name) and $ONDOL_OP_CASES_EVERY (each Nth) leave; all
/// without.
std::vector<OpCase> selected_op_cases();
bool all_op_cases_are_selected();
/// Shapes as in training a small model, for the benchmark.
std::vector<OpCase> benchmark_cases();

/// One function per topic adds its cases; `large` asks for the benchmark's shapes instead of the tests'.
void add_elementwise_cases(std::vector<OpCase>& cases, bool large);
void add_reduce_cases(std::vector<OpCase>& cases, bool large);
void add_index_cases(std::vector<OpCase>& cases, bool large);
void add_loss_cases(std::vector<OpCase>& cases, bool large);
void add_distillation_cases(std::vector<OpCase>& cases, bool large);
void add_norm_cases(std::vector<OpCase>& cases, bool large);
void add_rope_cases(std::vector<OpCase>& cases, bool large);
void add_matmul_cases(std::vector<OpCase>& cases, bool large);
void add_sampling_cases(std::vector<OpCase>& cases, bool large);
void add_quantized_cases(std::vector<OpCase>& cases, bool large);
void add_attention_cases(std::vector<OpCase>& cases, bool large);
void add_attention_form_cases(std::vector<OpCase>& cases);
void add_autograd_cases(std::vector<OpCase>& cases, bool large);
void add_optimizer_cases(std::vector<OpCase>& cases, bool large);

inline constexpr DType kDataTypes[] = {DType::f32, DType::bf16};

inline const char* layout_name(Layout layout) {
  constexpr const char* kNames[] = {"", " transposed", " sliced", " shifted"};
  return kNames[static_cast<int>(layout)];
}

}  // namespace ondol::testing
