// What the reference models of hf_tiny do not show of encoders: older spellings of files, untied heads, batches without
// padding, losses on targets that do not count, initial weights.
#include <cmath>

#include <ondol/io/safetensors.h>
#include <ondol/models/model.h>

#include <gtest/gtest.h>

#include "support/error_of.h"
#include "support/temporary_directory.h"
#include "support/test_device.h"

namespace ondol {
namespace {

constexpr const char* kSizes =
    R"("vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
       "max_position_embeddings": 20, "initializer_range": 0.3)";

std::string config_of(const std::string& type, const std::string& architecture, const std::string& more = "") {
  return concat(R"({"model_type": ")", type, R"(", "architectures": [")", architecture, "\"], ", kSizes, more, "}");
}

std::unique_ptr<Model> model_of(const std::string& config) {
  const testing::TemporaryDirectory directory;
  return create_model(directory.write("config.json", config), DType::f32, testing::test_device(), 5);
}

std::unique_ptr<Model> load_again(const std::string& directory) {
  return load_model(directory, {.device = to_string(testing::test_device())});
}

Tensor output(Model& model, const ModelInput& input, const std::string& wanted) {
  for (const auto& [name, value] : model.forward(model.prepare(input).to(model.device()), {})) {
    if (name == wanted) return value.value();
  }
  throw Error("no output " + wanted);
}

double loss_of(Model& model, const ModelInput& input) {
  const ModelInput ready = model.prepare(input);
  return total_loss(model.losses(ready.to(model.device()), mean_scales(model.count_targets(ready)), {})).value().item();
}

Tensor integers(const std::vector<int32_t>& values, const Shape& shape) { return Tensor::from_vector(values, shape); }

ModelInput two_texts() {
  ModelInput input;
  input.input_ids = integers({2, 9, 31, 3, 7, 2, 12, 3, 0, 0}, {2, 5});
  input.attention_mask = Tensor::from_vector(std::vector<uint8_t>{1, 1, 1, 1, 1, 1, 1, 1, 0, 0}, {2, 5});
  return input;
}

/// The weights of a model under other names.
void rewrite(const std::string& from, const std::string& to, const std::function<std::string(std::string)>& rename,
             const NamedTensors& more = {}) {
  const SafetensorsFile file(from);
  NamedTensors tensors = more;
  for (const SafetensorsEntry& entry : file.entries()) {
    const std::string name = rename(entry.name);
    if (!name.empty()) tensors.emplace_back(name, file.tensor(entry.name));
  }
  write_safetensors(to, tensors);
}

TEST(EncoderFiles, OldBertSpellings) {
  const auto model = model_of(config_of("bert", "BertForPreTraining"));
  const Tensor expected = output(*model, two_texts(), "logits");
  const testing::TemporaryDirectory saved, old;
  save_model(*model, saved.path());
  old.write("config.json", saved.read("config.json"));
  // As the first checkpoints were written: gamma and beta, no prefix, buffers, copies of tied weights.
  const auto spell = [](std::string name) {
    if (name.starts_with("bert.")) name = name.substr(5);
    if (name.ends_with("LayerNorm.weight")) return name.substr(0, name.size() - 6) + "gamma";
    if (name.ends_with("LayerNorm.bias")) return name.substr(0, name.size() - 4) + "beta";
    return name;
  };
  const SafetensorsFile weights(saved / "model.safetensors");
  const Tensor words = weights.tensor("bert.embeddings.word_embeddings.weight");
  rewrite(saved / "model.safetensors", old / "model.safetensors", spell,
          {{"embeddings.position_ids", Tensor::zeros({1, 20}, DType::i64)},
           {"cls.predictions.decoder.weight", words.clone()},
           {"cls.predictions.decoder.bias", weights.tensor("cls.predictions.bias").clone()}});
  EXPECT_EQ(output(*load_again(old.path()), two_texts(), "logits").to_vector<float>(), expected.to_vector<float>());

  // A copy that differs is no copy, and a name that nobody knows is refused.
  rewrite(saved / "model.safetensors", old / "model.safetensors", spell,
          {{"cls.predictions.decoder.weight", Tensor::zeros({50, 16})}});
  EXPECT_NE(testing::error_of([&] { load_again(old.path()); }).find("ties them"), std::string::npos);
  rewrite(saved / "model.safetensors", old / "model.safetensors", spell, {{"bert.surprise", Tensor::zeros({2})}});
  EXPECT_NE(testing::error_of([&] { load_again(old.path()); }).find("bert.surprise"), std::string::npos);
}

TEST(EncoderFiles, ABackboneIsReadFromAModelWithHeads) {
  const auto model = model_of(config_of("bert", "BertForPreTraining"));
  const testing::TemporaryDirectory saved;
  save_model(*model, saved.path());
  saved.write("config.json", config_of("bert", "BertModel"));
  const auto backbone = load_again(saved.path());
  EXPECT_EQ(output(*backbone, two_texts(), "pooler_output").to_vector<float>(),
            output(*model, two_texts(), "pooler_output").to_vector<float>());
  const testing::TemporaryDirectory again;
  save_model(*backbone, again.path());
  EXPECT_TRUE(SafetensorsFile(again / "model.safetensors").has("embeddings.word_embeddings.weight"));
}

/// The bias that counts is the decoder's; files of transformers 4 hold only the other one, which was the same.
TEST(EncoderFiles, UntiedBertHead) {
  const auto model = model_of(config_of("bert", "BertForMaskedLM", R"(, "tie_word_embeddings": false)"));
  std::vector<float> before = output(*model, two_texts(), "logits").to_vector<float>();
  const auto slot = [&](const std::string& name) {
    for (const WeightSlot& each : model->weights()) {
      if (each.name == name) return each.parameter.value();
    }
    throw Error("no weight " + name);
  };
  slot("cls.predictions.bias").fill(3.0);
  EXPECT_EQ(output(*model, two_texts(), "logits").to_vector<float>(), before);
  slot("cls.predictions.decoder.bias").fill(3.0);
  const std::vector<float> after = output(*model, two_texts(), "logits").to_vector<float>();
  for (size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(after[i], before[i] + 3.0f, 1e-4f);

  const testing::TemporaryDirectory saved, old;
  save_model(*model, saved.path());
  old.write("config.json", saved.read("config.json"));
  for (const char* left_out : {"cls.predictions.decoder.bias", "cls.predictions.bias"}) {
    rewrite(saved / "model.safetensors", old / "model.safetensors",
            [&](const std::string& name) { return name == left_out ? "" : name; });
    EXPECT_EQ(output(*load_again(old.path()), two_texts(), "logits").to_vector<float>(), after) << left_out;
  }
}

/// One row after the other gives what each row gives alone, and what it gives with padding.
TEST(Encoder, BatchesWithoutPadding) {
  for (const auto& [type, architecture] :
       {std::pair{"bert", "BertForSequenceClassification"}, std::pair{"roberta", "RobertaForSequenceClassification"}}) {
    const std::string more = type == std::string("bert") ? "" : R"(, "type_vocab_size": 1, "pad_token_id": 1)";
    const auto model = model_of(config_of(type, architecture, more));
    ModelInput padded = two_texts();
    const int32_t padding = *model->info().pad_token_id;
    padded.input_ids = integers({2, 9, 31, 3, 7, 2, 12, 3, padding, padding}, {2, 5});
    ModelInput packed;
    packed.input_ids = integers({2, 9, 31, 3, 7, 2, 12, 3}, {1, 8});
    packed.sequences = SequenceOffsets::from_lengths({5, 3});
    const std::vector<float> a = output(*model, padded, "logits").to_vector<float>();
    const std::vector<float> b = output(*model, packed, "logits").to_vector<float>();
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5f) << type;
  }
}

TEST(EncoderLoss, AnswersOutsideTheTextDoNotCount) {
  const auto model = model_of(config_of("bert", "BertForQuestionAnswering"));
  ModelInput input = two_texts();
  input.start_positions = integers({1, 5}, {2});
  input.end_positions = integers({3, 2}, {2});
  const ModelInput ready = model->prepare(input);
  EXPECT_EQ(model->count_targets(ready), (std::vector<int64_t>{1, 2}));
  const auto log_probability = [&](const std::string& name, int row, int place) {
    const std::vector<float> scores = output(*model, input, name).to_vector<float>();
    double sum = 0;
    for (int t = 0; t < 5; ++t) sum += std::exp(static_cast<double>(scores[static_cast<size_t>(5 * row + t)]));
    return scores[static_cast<size_t>(5 * row + place)] - std::log(sum);
  };
  const double start = -log_probability("start_logits", 0, 1);
  const double end = -(log_probability("end_logits", 0, 3) + log_probability("end_logits", 1, 2)) / 2;
  EXPECT_NEAR(loss_of(*model, input), (start + end) / 2, 1e-5);
}

TEST(EncoderLoss, ReplacedTokensAreCountedWhereThereIsText) {
  const auto model = model_of(config_of("electra", "ElectraForPreTraining", R"(, "embedding_size": 8)"));
  ModelInput input = two_texts();
  input.labels = integers({0, 1, 0, 0, 1, 0, 0, 1, 1, 1}, {2, 5});
  EXPECT_EQ(model->count_targets(model->prepare(input)), std::vector<int64_t>{8});
  const std::vector<float> scores = output(*model, input, "logits").to_vector<float>();
  const std::vector<int> labels = {0, 1, 0, 0, 1, 0, 0, 1};
  double sum = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const double probability = 1.0 / (1.0 + std::exp(-static_cast<double>(scores[i])));
    sum -= std::log(labels[i] == 1 ? probability : 1.0 - probability);
  }
  EXPECT_NEAR(loss_of(*model, input), sum / 8, 1e-5);
}

TEST(EncoderLoss, RegressionAndSeveralLabels) {
  const auto regression =
      model_of(config_of("bert", "BertForSequenceClassification", R"(, "id2label": {"0": "score"})"));
  EXPECT_TRUE(regression->info().regression);
  ModelInput input = two_texts();
  input.labels = Tensor::from_vector(std::vector<float>{0.5f, -2.0f}, {2});
  std::vector<float> values = output(*regression, input, "logits").to_vector<float>();
  EXPECT_NEAR(loss_of(*regression, input), (std::pow(values[0] - 0.5, 2) + std::pow(values[1] + 2.0, 2)) / 2, 1e-5);

  const auto several = model_of(config_of("bert", "BertForSequenceClassification", R"(, "num_labels": 3)"));
  input.labels = Tensor::from_vector(std::vector<float>{1, 0, 1, 0, 0, 1}, {2, 3});
  values = output(*several, input, "logits").to_vector<float>();
  double sum = 0;
  for (size_t i = 0; i < 6; ++i) {
    const double x = values[i], y = i == 0 || i == 2 || i == 5;
    sum += std::log1p(std::exp(x)) - x * y;
  }
  EXPECT_NEAR(loss_of(*several, input), sum / 6, 1e-5);
  input.labels = integers({2, 0}, {2});  // the same head, one label each
  EXPECT_EQ(several->count_targets(several->prepare(input)), std::vector<int64_t>{2});
  input.labels = integers({3, 0}, {2});
  EXPECT_NE(testing::error_of([&] { several->prepare(input); }).find("\"labels\" holds 3"), std::string::npos);
}

TEST(Encoder, DropoutInTrainingOnly) {
  const auto model = model_of(config_of("bert", "BertForMaskedLM"));
  const ModelInput ready = model->prepare(two_texts()).to(model->device());
  ForwardContext training;
  training.training = true;
  training.rng = {1, 0, {}};
  const auto logits = [&](const ForwardContext& context) {
    return model->forward(ready, context).front().second.value().to_vector<float>();
  };
  EXPECT_EQ(logits({}), logits({}));
  EXPECT_EQ(logits(training), logits(training));
  EXPECT_NE(logits(training), logits({}));
}

TEST(Encoder, PaddingRowsStartAsZeros) {
  const auto model = model_of(config_of("roberta", "RobertaForMaskedLM", R"(, "pad_token_id": 1)"));
  int rows = 0;
  for (const WeightSlot& slot : model->weights()) {
    if (slot.name != "roberta.embeddings.word_embeddings.weight" &&
        slot.name != "roberta.embeddings.position_embeddings.weight") {
      continue;
    }
    for (const float v : slot.parameter.value().select(0, 1).to_vector<float>()) EXPECT_EQ(v, 0.0f) << slot.name;
    EXPECT_NE(slot.parameter.value().select(0, 2).to_vector<float>()[0], 0.0f);
    ++rows;
  }
  EXPECT_EQ(rows, 2);
  EXPECT_EQ(model->info().max_positions, 18);
}

TEST(Encoder, ConfigurationsThatDoNotFit) {
  const auto error = [](const std::string& config) { return testing::error_of([&] { model_of(config); }); };
  EXPECT_NE(error(config_of("bert", "BertForMultipleChoice")).find("BertForMultipleChoice"), std::string::npos);
  std::string heads = config_of("bert", "BertModel");
  heads.replace(heads.find("\"num_attention_heads\": 2"), 24, "\"num_attention_heads\": 3");
  EXPECT_NE(error(heads).find("heads do not divide"), std::string::npos);
  EXPECT_NE(error(config_of("bert", "BertForTokenClassification", R"(, "id2label": {"1": "a"})")).find("id2label"),
            std::string::npos);
  EXPECT_NE(
      error(config_of("bert", "BertModel", R"(, "position_embedding_type": "relative_key")")).find("relative_key"),
      std::string::npos);
}

}  // namespace
}  // namespace ondol
