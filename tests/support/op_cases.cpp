#include "support/op_cases.h"

#include <cstdlib>

#include <ondol/base/philox.h>

#include "base/fnv1a.h"

namespace ondol::testing {

namespace {

/// The seed of a case follows from its name, so that adding cases changes no other.
uint64_t seed_of(const std::string& name) { return Fnv1a<uint64_t>().add(name).value(); }

Tensor contiguous_values(const Input& input, const Shape& shape, PhiloxKey key) {
  const int64_t count = shape.numel();
  if (input.fill == Fill::uniform_ids || input.fill == Fill::given) {
    std::vector<int32_t> values = input.given;
    for (int64_t i = 0; input.fill == Fill::uniform_ids && i < count; ++i) {
      values.push_back(static_cast<int32_t>(philox_word(key, static_cast<uint64_t>(i)) % input.limit));
    }
    return Tensor::from_vector(values, shape).to(input.dtype);
  }
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const double normal = philox_normal(key, static_cast<uint64_t>(i));
    values[static_cast<size_t>(i)] =
        static_cast<float>(input.scale * (input.fill == Fill::positive ? std::abs(normal) + 0.1 : normal));
  }
  return Tensor::from_vector(values, shape).to(input.dtype);
}

}  // namespace

std::vector<Tensor> build_inputs(const OpCase& c, Device device) {
  std::vector<Tensor> tensors;
  for (const Input& input : c.inputs) {
    const PhiloxKey key{seed_of(c.name), static_cast<uint32_t>(tensors.size()), 0};
    Shape stored = input.shape;
    if (input.layout == Layout::transposed) {
      stored.set(-1, input.shape[-2]);
      stored.set(-2, input.shape[-1]);
    } else if (input.layout == Layout::sliced) {
      stored.set(-1, input.shape[-1] + 5);
    } else if (input.layout == Layout::shifted) {
      stored = Shape{input.shape.numel() + 1};
    }
    Tensor t = contiguous_values(input, stored, key).to(device);
    if (input.layout == Layout::transposed) t = t.transpose(-1, -2);
    if (input.layout == Layout::sliced) t = t.narrow(-1, 3, input.shape[-1]);
    if (input.layout == Layout::shifted) t = t.narrow(0, 1, input.shape.numel()).reshape(input.shape);
    tensors.push_back(std::move(t));
  }
  return tensors;
}

std::vector<Array<double>> oracle_inputs(const std::vector<Tensor>& inputs) { return {inputs.begin(), inputs.end()}; }

std::vector<Array<float>> naive_inputs(const std::vector<Tensor>& inputs) { return {inputs.begin(), inputs.end()}; }

namespace {
std::vector<OpCase> all_cases(bool large) {
  std::vector<OpCase> cases;
  add_elementwise_cases(cases, large);
  add_reduce_cases(cases, large);
  add_index_cases(cases, large);
  add_loss_cases(cases, large);
  add_distillation_cases(cases, large);
  add_norm_cases(cases, large);
  add_rope_cases(cases, large);
  add_matmul_cases(cases, large);
  add_quantized_cases(cases, large);
  add_sampling_cases(cases, large);
  add_attention_cases(cases, large);
  if (!large) add_attention_form_cases(cases);
  add_autograd_cases(cases, large);
  add_optimizer_cases(cases, large);
  return cases;
}
}  // namespace

std::vector<OpCase> op_cases() { return all_cases(false); }

bool all_op_cases_are_selected() {
  return std::getenv("ONDOL_OP_CASES") == nullptr && std::getenv("ONDOL_OP_CASES_EVERY") == nullptr;
}

std::vector<OpCase> selected_op_cases() {
  const char *part = std::getenv("ONDOL_OP_CASES"), *every = std::getenv("ONDOL_OP_CASES_EVERY");
  const int step = every == nullptr ? 1 : std::max(std::atoi(every), 1);
  std::vector<OpCase> selected;
  int number = 0;
  for (OpCase& c : op_cases()) {
    if (part != nullptr && c.name.find(part) == std::string::npos) continue;
    if (number++ % step == 0) selected.push_back(std::move(c));
  }
  return selected;
}
std::vector<OpCase> benchmark_cases() { return all_cases(true); }

}  // namespace ondol::testing
