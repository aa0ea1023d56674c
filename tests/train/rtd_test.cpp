// Replaced-token detection: the loss against its formula in double, where gradients go, and a run that is interrupted.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/base/philox.h>
#include <ondol/io/safetensors.h>
#include <ondol/train/objective.h>
#include <ondol/train/trainer.h>

#include "support/error_of.h"
#include "support/temporary_directory.h"
#include "train/run_watch.h"

namespace ondol {
namespace {

constexpr int64_t kVocabulary = 40, kRows = 3, kLength = 10;
constexpr const char* kWords = "electra.embeddings.word_embeddings.weight";

std::string discriminator_config(const std::string& architecture = "ElectraForPreTraining", int64_t embedding = 12) {
  return concat(R"({"model_type": "electra", "architectures": [")", architecture, R"("], "vocab_size": )", kVocabulary,
                R"(, "embedding_size": )", embedding, R"(, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 24, "max_position_embeddings": 16, "initializer_range": 0.5,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})");
}

std::string settings(const std::string& sharing, const std::string& more = "") {
  return concat(R"({"type": "rtd", "mlm": {"mask_token_id": 4, "probability": 0.4}, "embedding_sharing": ")", sharing,
                "\"", more, "}");
}

struct Pair {
  explicit Pair(const std::string& text, uint64_t seed = 3) : objective(make_objective(text)) {
    model = create_model(directory.write("config.json", discriminator_config()), DType::f32, {}, seed,
                         [this](Model& made) { objective->extend(made); });
    objective->set_up(*model, {});
    model->parameters().enable_gradients();
  }
  Model& generator() const { return *model->attached("generator"); }
  Batch batch() const {
    std::vector<int32_t> ids;
    std::vector<uint8_t> mask;
    for (int64_t i = 0; i < kRows * kLength; ++i) {
      ids.push_back(static_cast<int32_t>(5 + philox_word({9, 0, 0}, static_cast<uint64_t>(i)) % (kVocabulary - 5)));
      mask.push_back(i % kLength < 8 || i < kLength);
    }
    Batch samples;
    samples.input_ids = Tensor::from_vector(ids, {kRows, kLength});
    samples.attention_mask = Tensor::from_vector(mask, {kRows, kLength});
    samples.first_sample = 100;
    return objective->prepare(samples, {.model = *model, .vocabulary = &vocabulary, .seed = 3});
  }
  std::vector<Variable> losses(const Batch& prepared) const {
    ForwardContext context;
    context.rng.seed = 3;
    return objective->losses(*model, prepared, mean_scales(objective->count_targets(prepared, *model)), context);
  }

  testing::TemporaryDirectory directory;
  Vocabulary vocabulary{.special = std::vector<bool>(kVocabulary, false)};
  std::unique_ptr<Objective> objective;
  std::unique_ptr<Model> model;
};

Variable weight(const Model& model, const std::string& name) {
  for (const WeightSlot& slot : model.weights()) {
    if (slot.name == name) return slot.parameter;
  }
  throw Error("no " + name);
}

double log_sum_exp(const float* values, int64_t count) {
  double largest = -INFINITY, sum = 0.0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<double>(values[i]));
  for (int64_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(values[i]) - largest);
  return largest + std::log(sum);
}

std::vector<float> logits(Model& model, const ModelInput& input) {
  return model.forward(model.prepare(input), {}).front().second.value().to_vector<float>();
}

TEST(ReplacedTokenDetection, LossIsThatOfTheFormula) {
  const Pair pair(settings("shared"));
  const Batch batch = pair.batch();
  const std::vector<int32_t> masked = batch.input_ids.to_vector<int32_t>(), labels = batch.labels.to_vector<int32_t>();
  const std::vector<int32_t> originals = batch.find("original_ids")->to_vector<int32_t>();
  ModelInput input;
  input.input_ids = batch.input_ids;
  input.attention_mask = batch.attention_mask;
  const std::vector<float> scores = logits(pair.generator(), input);

  double mlm = 0.0, targets = 0.0;
  std::vector<int32_t> filled = originals, replaced(originals.size(), 0);
  int64_t changed = 0;
  for (int64_t i = 0; i < kRows * kLength; ++i) {
    const auto at = static_cast<size_t>(i);
    if (labels[at] == kIgnoreIndex) {
      EXPECT_EQ(masked[at], originals[at]);
      continue;
    }
    EXPECT_EQ(labels[at], originals[at]);
    EXPECT_TRUE(masked[at] == 4 || masked[at] == originals[at]);
    const float* row = scores.data() + i * kVocabulary;
    mlm += log_sum_exp(row, kVocabulary) - static_cast<double>(row[labels[at]]);
    targets += 1.0;
    const PhiloxKey key{3, 0x52544400, static_cast<uint32_t>(100 + i / kLength)};
    const auto first = static_cast<uint64_t>(i % kLength * kVocabulary);  // 40 is a multiple of four
    double best = -INFINITY;
    for (int32_t v = 0; v < kVocabulary; ++v) {
      const auto uniform = static_cast<double>(philox_uniform(key, first + static_cast<uint64_t>(v)));
      const double score = static_cast<double>(row[v]) - std::log(-std::log(uniform));
      if (score > best) filled[at] = v;
      best = std::max(best, score);
    }
    replaced[at] = filled[at] != originals[at];
    changed += replaced[at];
  }
  EXPECT_GT(changed, 0);
  input.input_ids = Tensor::from_vector(filled, {kRows, kLength});
  const std::vector<float> tells = logits(*pair.model, input);
  const std::vector<uint8_t> mask = batch.attention_mask.to_vector<uint8_t>();
  double rtd = 0.0, tokens = 0.0;
  for (size_t i = 0; i < tells.size(); ++i) {
    if (mask[i] == 0) continue;
    const double x = static_cast<double>(tells[i]), y = replaced[i];
    rtd += std::log1p(std::exp(-std::abs(x))) + std::max(x, 0.0) - x * y;
    tokens += 1.0;
  }
  const std::vector<Variable> terms = pair.losses(batch);
  EXPECT_EQ(pair.objective->count_targets(batch, *pair.model),
            (std::vector<int64_t>{static_cast<int64_t>(targets), static_cast<int64_t>(tokens)}));
  EXPECT_NEAR(terms[0].value().item(), mlm / targets, 1e-5 * mlm / targets);
  EXPECT_NEAR(terms[1].value().item(), 50.0 * rtd / tokens, 1e-5 * 50.0 * rtd / tokens);
}

TEST(ReplacedTokenDetection, ATokenDrawnAsItWasCountsAsOriginal) {
  Pair pair(settings("none"));
  // A generator that is certain of token 7.
  weight(pair.generator(), "generator_lm_head.bias").value().narrow(0, 7, 1).fill(1e4);
  Batch batch = pair.batch();
  const std::vector<int32_t> sevens(static_cast<size_t>(kRows * kLength), 7);
  for (auto& [name, tensor] : batch.others) {
    if (name == "original_ids") tensor = Tensor::from_vector(sevens, {kRows, kLength});
  }
  std::vector<int32_t> labels = batch.labels.to_vector<int32_t>();
  for (int32_t& label : labels) label = label == kIgnoreIndex ? label : 7;
  batch.labels = Tensor::from_vector(labels, {kRows, kLength});
  const double loss = pair.losses(batch)[1].value().item();
  ModelInput input;
  input.input_ids = Tensor::from_vector(sevens, {kRows, kLength});
  input.attention_mask = batch.attention_mask;
  input.labels = Tensor::zeros({kRows, kLength}, DType::i32);
  const ModelInput prepared = pair.model->prepare(input);
  const double expected =
      total_loss(pair.model->losses(prepared, mean_scales(pair.model->count_targets(prepared)), {})).value().item();
  EXPECT_NEAR(loss, 50.0 * expected, 1e-4 * 50.0 * expected);
}

/// (f(x + h) - f(x - h)) / 2h for one element.
double central_difference(const Tensor& values, int64_t element, double step, const std::function<double()>& loss) {
  const Tensor one = values.reshape({values.numel()}).narrow(0, element, 1);
  const double before = one.item();
  one.fill(before + step);
  const double above = loss();
  one.fill(before - step);
  const double below = loss();
  one.fill(before);
  return (above - below) / (2.0 * step);
}

TEST(ReplacedTokenDetection, SharedEmbeddingsGetGradientsFromBoth) {
  const Pair pair(settings("shared", R"(, "discriminator_weight": 3)"));
  const Batch batch = pair.batch();
  {
    Tape tape;
    tape.backward(total_loss(pair.losses(batch)));
  }
  const Variable words = weight(*pair.model, kWords);
  EXPECT_EQ(words.value().raw(), weight(pair.generator(), kWords).value().raw());
  const std::vector<float> gradient = words.grad().to_vector<float>();
  const auto total = [&] {
    const std::vector<Variable> terms = pair.losses(batch);
    return terms[0].value().item() + terms[1].value().item();
  };
  int64_t checked = 0;
  for (int64_t i = 5 * 12; i < kVocabulary * 12; i += 37) {
    const double expected = central_difference(words.value(), i, 2e-3, total);
    EXPECT_NEAR(static_cast<double>(gradient[static_cast<size_t>(i)]), expected, 2e-3 + 0.02 * std::abs(expected)) << i;
    checked += std::abs(expected) > 0.02;
  }
  EXPECT_GT(checked, 4) << "the gradients are not all near zero";
}

TEST(ReplacedTokenDetection, DisentangledEmbeddingsStopTheDiscriminatorsGradient) {
  const Pair pair(settings("disentangled"));
  const Batch batch = pair.batch();
  const ParameterStore& store = pair.model->parameters();
  const Variable own = weight(*pair.model, kWords), base = weight(pair.generator(), kWords);
  EXPECT_EQ(own.value().to_vector<float>(), base.value().to_vector<float>()) << "the difference begins as zero";
  const auto gradients = [&](bool generator, bool discriminator) {
    pair.model->parameters().clear_gradients();
    Tape tape;
    const std::vector<Variable> terms = pair.losses(batch);
    tape.backward(total_loss({generator ? terms[0] : Variable(), discriminator ? terms[1] : Variable()}));
    pair.model->parameters().finish_gradients();
    return std::pair(own.grad().defined() ? own.grad().to_vector<float>() : std::vector<float>(kVocabulary * 12),
                     base.grad().defined() ? base.grad().to_vector<float>() : std::vector<float>(kVocabulary * 12));
  };
  const auto [own_both, base_both] = gradients(true, true);
  const auto [own_discriminator, unused] = gradients(false, true);
  const auto [untouched, base_generator] = gradients(true, false);
  EXPECT_EQ(own_both, own_discriminator) << "only the discriminator's loss reaches the difference";
  EXPECT_EQ(std::count(own_both.begin(), own_both.end(), 0.0f) < kVocabulary * 6, true);
  EXPECT_EQ(base_both, base_generator) << "the discriminator's loss does not reach the generator";
  for (const float g : untouched) ASSERT_EQ(g, 0.0f) << "nor the generator's loss the difference";
  EXPECT_GT(std::count_if(base_both.begin(), base_both.end(), [](float g) { return g != 0.0f; }), 100);

  // The value is the sum, once it has been written anew.
  for (const ParameterStore::Entry& entry : store.entries()) {
    if (entry.base.defined()) entry.slice(store.flat_values()).fill(0.25);
  }
  store.refresh_sums();
  const std::vector<float> sum = own.value().to_vector<float>(), summand = base.value().to_vector<float>();
  for (size_t i = 0; i < sum.size(); ++i) ASSERT_EQ(sum[i], summand[i] + 0.25f);
}

TEST(ReplacedTokenDetection, RefusesWhatDoesNotFit) {
  const testing::TemporaryDirectory directory;
  const auto message = [&](const std::string& config, const std::string& text) {
    return testing::error_of([&] {
      const auto objective = make_objective(text);
      create_model(directory.write("config.json", config), DType::f32, {}, 1,
                   [&](Model& model) { objective->extend(model); });
    });
  };
  EXPECT_EQ(message(discriminator_config(), settings("shared")), "no error");
  EXPECT_NE(message(discriminator_config("ElectraForMaskedLM"), settings("shared")).find("ElectraForMaskedLM"),
            std::string::npos);
  const std::string other_vocabulary = directory.write(
      "generator.json", R"({"model_type": "electra", "architectures": ["ElectraForMaskedLM"], "vocab_size": 39,
      "embedding_size": 12, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8})");
  const std::string generator = concat(R"(, "generator": {"config": ")", other_vocabulary, "\"}");
  EXPECT_NE(message(discriminator_config(), settings("shared", generator)).find("39 and 40 tokens"), std::string::npos);
  const std::string narrow = directory.write(
      "narrow.json", R"({"model_type": "electra", "architectures": ["ElectraForMaskedLM"], "vocab_size": 40,
      "embedding_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8})");
  const std::string other_width = concat(R"(, "generator": {"config": ")", narrow, "\"}");
  EXPECT_NE(message(discriminator_config(), settings("shared", other_width)).find("cannot be shared"),
            std::string::npos);
  EXPECT_EQ(message(discriminator_config(), settings("none", other_width)), "no error");
  EXPECT_NE(testing::error_of([] {
              make_objective(R"({"type": "rtd", "mlm": {"probabilty": 0.2}})");
            }).find("objective.mlm.probabilty"),
            std::string::npos);
}

/// A run that trains both models.
TrainConfig run_config(const testing::TemporaryDirectory& directory, const std::string& run, const std::string& sharing,
                       const std::vector<std::string>& overrides) {
  std::vector<int32_t> ids;
  for (int i = 0; i < 24 * 10; ++i) ids.push_back(static_cast<int32_t>(5 + philox_word({1, 0, 0}, i) % 35));
  write_safetensors(directory / "train.safetensors", {{"input_ids", Tensor::from_vector(ids, {24, 10})}});
  directory.write("model.json", discriminator_config());
  const std::string text = concat(R"({"model": {"config": ")", directory / "model.json",
                                  R"("}, "data": {"train": [{"path": ")", directory / "train.safetensors",
                                  R"("}]}, "objective": {"type": "rtd", "mlm": {"mask_token_id": 4, "probability": 0.3},
      "embedding_sharing": ")",
                                  sharing, R"("}, "optimizer": {"learning_rate": 1e-2, "ema_decay": 0.5},
      "train": {"steps": 8, "batch_size": 4, "micro_batch_size": 2}, "checkpoint": {"every": 2}, "output": ")",
                                  directory / run, "\"}");
  return TrainConfig::from_json(text, overrides);
}

class RtdRun : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};
INSTANTIATE_TEST_SUITE_P(ReplacedTokenDetection, RtdRun,
                         ::testing::Values(std::pair("shared", "f32"), std::pair("disentangled", "f32"),
                                           std::pair("disentangled", "bf16"), std::pair("none", "f32")),
                         [](const auto& c) { return concat(c.param.first, "_", c.param.second); });

TEST_P(RtdRun, IsTheSameAfterAnInterruption) {
  const auto [sharing, dtype] = GetParam();
  const testing::TemporaryDirectory directory;
  const std::vector<std::string> overrides = {std::string("train.dtype=") + dtype};
  Trainer(run_config(directory, "whole", sharing, overrides), {.device = "cpu"}).run();
  testing::run_in_parts(run_config(directory, "parts", sharing, overrides), {3, 6});
  testing::expect_same_files(directory, "whole", "parts",
                             {"final/model.safetensors", "final/generator/model.safetensors",
                              "checkpoint-8/optimizer.safetensors", "checkpoint-8/extra.safetensors"});
  const auto discriminator = load_model(directory / "whole/final", {.device = "cpu"});
  const auto generator = load_model(directory / "whole/final/generator", {.device = "cpu"});
  EXPECT_EQ(discriminator->info().architecture, "ElectraForPreTraining");
  EXPECT_EQ(generator->info().architecture, "ElectraForMaskedLM");
  const std::vector<float> own = weight(*discriminator, kWords).value().to_vector<float>();
  const std::vector<float> theirs = weight(*generator, kWords).value().to_vector<float>();
  EXPECT_EQ(own == theirs, std::string(sharing) == "shared");

  std::ifstream metrics(directory / "whole/metrics.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(metrics, line));
  const nlohmann::json step = nlohmann::json::parse(line);
  EXPECT_NEAR(step["loss"].get<double>(), step["losses"]["mlm"].get<double>() + step["losses"]["rtd"].get<double>(),
              1e-4);
}

TEST(ReplacedTokenDetection, FinalEmbeddingsAreTheSumOfTheAverages) {
  const testing::TemporaryDirectory directory;
  Trainer(run_config(directory, "run", "disentangled", {}), {.device = "cpu"}).run();
  const auto discriminator = load_model(directory / "run/final", {.device = "cpu"});
  const auto generator = load_model(directory / "run/final/generator", {.device = "cpu"});
  const SafetensorsFile state(directory / "run/checkpoint-8/optimizer.safetensors");
  const std::vector<float> average = state.tensor("average").to_vector<float>();
  const std::vector<float> sum = weight(*discriminator, kWords).value().to_vector<float>();
  const std::vector<float> base = weight(*generator, kWords).value().to_vector<float>();
  // The word embeddings are the first matrix of the model, so of the flat buffers.
  for (size_t i = 0; i < sum.size(); ++i) ASSERT_EQ(sum[i], base[i] + average[i]) << i;
}

}  // namespace
}  // namespace ondol
