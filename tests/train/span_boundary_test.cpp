// SpanBERT's boundary objective: its targets, and its loss against the formula in double.
#include "train/objectives/span_boundary.h"

#include <gtest/gtest.h>

#include <cmath>

#include <ondol/autograd/variable.h>

#include "train/corruption.h"

namespace ondol {
namespace {

using namespace testing;

constexpr const char* kSettings = R"({"type": "mlm", "masking": "span", "span_boundary": true})";

std::unique_ptr<Model> extended_encoder() {
  const TemporaryDirectory directory;
  const auto objective = make_objective(kSettings);
  return create_model(directory.write("config.json", R"({"model_type": "bert", "architectures": ["BertForMaskedLM"],
    "vocab_size": 6000, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 512, "initializer_range": 0.3})"),
                      DType::f32, {}, 1, [&objective](Model& model) { objective->extend(model); });
}

TEST(SpanBoundary, TargetsAreTheTokensOfSpansWithBothBoundaries) {
  Batch batch = counting_samples(2, 12);
  std::vector<uint8_t> mask(24, 1);
  for (size_t i = 20; i < 24; ++i) mask[i] = 0;
  batch.attention_mask = Tensor::from_vector(mask, {2, 12});
  const std::vector<int32_t> tokens = batch.input_ids.to_vector<int32_t>();
  // Row 0: 3 ... 5, and one at the end of the row; row 1: the first token, 4 ... 6, and one beside padding.
  SpanBoundaryObjective(2).add_targets({{3, 6}, {10, 12}, {12, 13}, {16, 19}, {19, 20}}, tokens, 4, batch);
  const auto targets = SpanBoundaryObjective::take_targets(batch);
  EXPECT_TRUE(batch.others.empty());
  EXPECT_EQ(targets.left.to_vector<int32_t>(), (std::vector<int32_t>{2, 2, 2, 0, 3, 3, 3, 0}));
  EXPECT_EQ(targets.right.to_vector<int32_t>(), (std::vector<int32_t>{6, 6, 6, 0, 7, 7, 7, 0}));
  EXPECT_EQ(targets.place.to_vector<int32_t>(), (std::vector<int32_t>{0, 1, 1, 0, 0, 1, 1, 0}));
  EXPECT_EQ(targets.labels.to_vector<int32_t>(), (std::vector<int32_t>{23, 24, 25, -100, 24, 25, 26, -100}));
}

using Row = std::vector<double>;

Row values(const Model& model, const std::string& name) {
  return model.parameters().extra("objective.boundary." + name).value().to_vector<double>();
}

/// norm(gelu(W x + b)), the exact GELU.
Row layer(const Model& model, const Row& x, const std::string& name) {
  const Row w = values(model, name + ".weight"), b = values(model, name + ".bias");
  const Row scale = values(model, name + "_norm.weight"), shift = values(model, name + "_norm.bias");
  Row y(b.size());
  double mean = 0.0, square = 0.0;
  for (size_t o = 0; o < y.size(); ++o) {
    double sum = b[o];
    for (size_t i = 0; i < x.size(); ++i) sum += w[o * x.size() + i] * x[i];
    y[o] = 0.5 * sum * (1.0 + std::erf(sum / std::sqrt(2.0)));
    mean += y[o] / static_cast<double>(y.size());
  }
  for (const double v : y) square += (v - mean) * (v - mean) / static_cast<double>(y.size());
  for (size_t o = 0; o < y.size(); ++o) y[o] = (y[o] - mean) / std::sqrt(square + 1e-12) * scale[o] + shift[o];
  return y;
}

TEST(SpanBoundary, LossIsTheFormula) {
  const auto model = extended_encoder();
  const Vocabulary words = corruption_vocabulary();
  const auto objective = make_objective(kSettings);
  const ObjectiveContext context{.model = *model, .vocabulary = &words, .seed = 3};
  const Batch batch = objective->prepare(counting_samples(3, 60), context);
  const std::vector<int64_t> counts = objective->count_targets(batch, *model);
  ASSERT_EQ(counts.size(), 2u);
  EXPECT_EQ(counts[0], 24);  // 15 % of 60 are 9: four words of two tokens in each row
  EXPECT_GT(counts[1], 15);
  EXPECT_LE(counts[1], 24);

  Batch plain = batch;
  const auto targets = SpanBoundaryObjective::take_targets(plain);
  const Row states = model->hidden(model_input(plain), {}).value().to_vector<double>();
  Row embeddings;
  for (const WeightSlot& slot : model->weights()) {
    if (slot.name.ends_with("word_embeddings.weight")) embeddings = slot.parameter.value().to_vector<double>();
  }
  const Row places = values(*model, "places.weight"), bias = values(*model, "bias");
  const auto left = targets.left.to_vector<int32_t>(), right = targets.right.to_vector<int32_t>();
  const auto place = targets.place.to_vector<int32_t>(), labels = targets.labels.to_vector<int32_t>();
  const size_t capacity = labels.size() / 3;
  double expected = 0.0;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == kIgnoreIndex) continue;
    Row x;
    const auto append = [&x](const Row& from, size_t row) {
      for (size_t c = 0; c < 16; ++c) x.push_back(from[row * 16 + c]);
    };
    append(states, i / capacity * 60 + static_cast<size_t>(left[i]));
    append(states, i / capacity * 60 + static_cast<size_t>(right[i]));
    append(places, static_cast<size_t>(place[i]));
    const Row y = layer(*model, layer(*model, x, "dense1"), "dense2");
    double sum = 0.0, wanted = 0.0;
    for (size_t v = 0; v < bias.size(); ++v) {
      double score = bias[v];
      for (size_t c = 0; c < 16; ++c) score += embeddings[v * 16 + c] * y[c];
      sum += std::exp(score);
      if (static_cast<int32_t>(v) == labels[i]) wanted = score;
    }
    expected += std::log(sum) - wanted;
  }
  const auto loss = [&] {
    const auto terms = objective->losses(*model, batch, mean_scales(counts), {});
    EXPECT_EQ(terms.size(), 2u);
    return terms;
  };
  EXPECT_NEAR(loss()[1].value().item(), expected / static_cast<double>(counts[1]), 2e-5 * expected);

  // The first term is that of masked language modelling alone.
  const double masked = model->losses(model_input(plain), mean_scales({counts[0]}), {})[0].value().item();
  EXPECT_NEAR(loss()[0].value().item(), masked, 1e-6);

  // A gradient by differences.
  model->parameters().enable_gradients();
  model->parameters().clear_gradients();
  {
    Tape tape;
    tape.backward(total_loss(loss()));
  }
  model->parameters().finish_gradients();
  const Variable weight = model->parameters().extra("objective.boundary.dense1.weight");
  const auto gradient = weight.grad().to_vector<double>();
  float* const value = weight.value().data<float>();
  for (const size_t at : {size_t{5}, size_t{300}, size_t{700}}) {
    const float before = value[at];
    value[at] = before + 1e-2f;
    const double above = loss()[1].value().item();
    value[at] = before - 1e-2f;
    const double below = loss()[1].value().item();
    value[at] = before;
    EXPECT_NEAR(gradient[at], (above - below) / 2e-2, 2e-3 + 0.02 * std::abs(gradient[at])) << at;
  }
}

TEST(SpanBoundary, RefusesWhatDoesNotFit) {
  EXPECT_THROW(make_objective(R"({"type": "mlm", "span_boundary": true})"), UsageError);
  EXPECT_THROW(make_objective(R"({"type": "mlm", "masking": "span", "span_boundary": true, "pairs": "nsp"})"),
               UsageError);
}

}  // namespace
}  // namespace ondol
