#include "train/objectives/span_boundary.h"

#include <algorithm>

#include <ondol/autograd/functions.h>

namespace ondol {

namespace {

constexpr const char* kPrefix = "objective.boundary.";
constexpr const char* kInputs[] = {"boundary_left", "boundary_right", "boundary_place", "boundary_labels"};
constexpr float kNormEps = 1e-12f;

/// The width of what the scores of tokens are made from: that of the word embeddings.
int64_t embedding_width(const Model& model) {
  for (const ParameterStore::Entry& entry : model.parameters().entries()) {
    if (entry.name.ends_with("word_embeddings.weight")) return entry.shape[1];
  }
  throw UsageError(concat("objective.span_boundary: a ", model.info().model_type, " model has no word embeddings"));
}

Variable extra(const Model& model, const std::string& name) { return model.parameters().extra(kPrefix + name); }

/// norm(gelu(x W^T + b))
Variable layer(const Model& model, const Variable& x, const std::string& name) {
  const Variable dense = functions::linear(x, {.weight = extra(model, name + ".weight"),
                                               .bias = extra(model, name + ".bias"),
                                               .activation = Activation::gelu_erf});
  return functions::layer_norm(dense, extra(model, name + "_norm.weight"), extra(model, name + "_norm.bias"), kNormEps);
}

}  // namespace

void SpanBoundaryObjective::extend(Model& model) const {
  const int64_t hidden = model.info().hidden_size, width = embedding_width(model);
  ParameterStore& store = model.parameters();
  const auto add = [&store](const std::string& name, const Shape& shape, const Init& init) {
    store.add_extra(kPrefix + name, shape, init);
  };
  const auto add_layer = [&](const std::string& name, int64_t outputs, int64_t inputs) {
    add(name + ".weight", {outputs, inputs}, Init::normal(0.02f));
    add(name + ".bias", {outputs}, Init::zeros());
    add(name + "_norm.weight", {outputs}, Init::ones());
    add(name + "_norm.bias", {outputs}, Init::zeros());
  };
  add("places.weight", {max_span_, hidden}, Init::normal(0.02f));
  add_layer("dense1", hidden, 3 * hidden);
  add_layer("dense2", width, hidden);
  add("bias", {model.info().vocab_size}, Init::zeros());
}

void SpanBoundaryObjective::add_targets(const std::vector<MaskedSpan>& spans, const std::vector<int32_t>& tokens,
                                        int64_t capacity, Batch& batch) const {
  const int64_t rows = batch.size(), length = batch.input_ids.size(1);
  const std::vector<uint8_t> visible =
      batch.attention_mask.defined() ? batch.attention_mask.to_vector<uint8_t>() : std::vector<uint8_t>();
  const auto shows = [&](int64_t i) { return visible.empty() || visible[static_cast<size_t>(i)] != 0; };
  const auto size = static_cast<size_t>(rows * capacity);
  std::vector<int32_t> left(size, 0), right(size, 0), place(size, 0), labels(size, kIgnoreIndex);
  std::vector<int64_t> used(static_cast<size_t>(rows), 0);
  for (const MaskedSpan& span : spans) {
    const int64_t row = span.begin / length, first = row * length;
    const bool inside = span.begin > first && span.end < first + length;
    if (!inside || !shows(span.begin - 1) || !shows(span.end)) continue;
    int64_t& next = used[static_cast<size_t>(row)];
    for (int64_t i = span.begin; i < span.end && next < capacity; ++i, ++next) {
      const auto at = static_cast<size_t>(row * capacity + next);
      left[at] = static_cast<int32_t>(span.begin - 1 - first);
      right[at] = static_cast<int32_t>(span.end - first);
      place[at] = static_cast<int32_t>(std::min(i - span.begin, max_span_ - 1));
      labels[at] = tokens[static_cast<size_t>(i)];
    }
  }
  const Shape shape{rows, capacity};
  const std::vector<int32_t>* const values[] = {&left, &right, &place, &labels};
  for (size_t i = 0; i < std::size(kInputs); ++i) {
    batch.others.emplace_back(kInputs[i], Tensor::from_vector(*values[i], shape));
  }
}

SpanBoundaryObjective::Targets SpanBoundaryObjective::take_targets(Batch& batch) {
  Targets targets;
  Tensor* const places[] = {&targets.left, &targets.right, &targets.place, &targets.labels};
  for (size_t i = 0; i < std::size(kInputs); ++i) {
    const auto found = std::find_if(batch.others.begin(), batch.others.end(),
                                    [&](const auto& other) { return other.first == kInputs[i]; });
    ONDOL_CHECK(found != batch.others.end(), "the batch has no ", kInputs[i], ": it was not prepared");
    *places[i] = found->second;
    batch.others.erase(found);
  }
  return targets;
}

Variable SpanBoundaryObjective::loss(const Model& model, const Variable& states, const OutputProjection& output,
                                     const Targets& targets, const LossScale& scale) const {
  const Variable places = functions::embedding(extra(model, "places.weight"), targets.place);
  const Variable joined = functions::concat(
      {functions::take_rows(states, targets.left), functions::take_rows(states, targets.right), places}, 2);
  const Variable features = layer(model, layer(model, joined, "dense1"), "dense2");
  functions::LinearCrossEntropyInputs inputs;
  inputs.weight = output.weight;
  inputs.bias = extra(model, "bias");
  inputs.scale = scale;
  return functions::linear_cross_entropy(features, targets.labels, inputs);
}

}  // namespace ondol
