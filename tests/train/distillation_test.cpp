// Distillation: the loss against its formula in double, first values from the teacher, the cache, an interrupted run.
#include <cmath>
#include <filesystem>
#include <numeric>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/base/philox.h>
#include <ondol/io/safetensors.h>
#include <ondol/train/objective.h>
#include <ondol/train/trainer.h>

#include "support/error_of.h"
#include "support/ranks.h"
#include "support/temporary_directory.h"
#include "train/run_watch.h"
#include "train/teacher_cache.h"

namespace ondol {
namespace {

namespace fs = std::filesystem;
constexpr int64_t kVocabulary = 40, kRows = 3, kLength = 10;

struct Sizes {
  int64_t layers = 2, hidden = 16, vocabulary = kVocabulary;
};

std::string config_of(const std::string& family, const Sizes& s) {
  if (family == "gpt2") {
    return concat(R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": )", s.vocabulary,
                  R"(, "n_positions": 16, "n_embd": )", s.hidden, R"(, "n_layer": )", s.layers, R"(, "n_head": 2,
      "initializer_range": 0.3, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0})");
  }
  if (family == "bert") {
    return concat(R"({"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": )", s.vocabulary,
                  R"(, "hidden_size": )", s.hidden, R"(, "num_hidden_layers": )", s.layers,
                  R"(, "num_attention_heads": 2,
      "intermediate_size": 24, "max_position_embeddings": 16, "initializer_range": 0.3, "hidden_dropout_prob": 0.0,
      "attention_probs_dropout_prob": 0.0})");
  }
  if (family == "distilbert") {
    return concat(R"({"model_type": "distilbert", "architectures": ["DistilBertForMaskedLM"], "vocab_size": )",
                  s.vocabulary, R"(, "dim": )", s.hidden, R"(, "n_layers": )", s.layers, R"(, "n_heads": 2,
      "hidden_dim": 24, "max_position_embeddings": 16, "dropout": 0.0, "attention_dropout": 0.0})");
  }
  return concat(R"({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": )", s.vocabulary,
                R"(, "d_model": )", s.hidden, R"(, "d_kv": 8, "d_ff": 24, "num_layers": )", s.layers,
                R"(, "num_heads": 2, "dropout_rate": 0.0, "decoder_start_token_id": 0, "pad_token_id": 0,
      "relative_attention_num_buckets": 8})");
}

struct Distilled {
  /// `objective` lacks "teacher", which is put in.
  Distilled(const std::string& teacher_family, const Sizes& teacher_sizes, const std::string& student_family,
            const Sizes& student_sizes, nlohmann::json settings, ModelOrigin origin = {}) {
    save_model(
        *create_model(directory.write("teacher.json", config_of(teacher_family, teacher_sizes)), DType::f32, {}, 5),
        directory / "teacher");
    settings["type"] = "distillation";
    settings["teacher"]["path"] = directory / "teacher";
    objective = make_objective(settings.dump());
    model = create_model(directory.write("student.json", config_of(student_family, student_sizes)), DType::f32, {}, 6,
                         [this](Model& made) { objective->extend(made); });
    objective->set_up(*model, origin);
    teacher = load_model(directory / "teacher", {.device = "cpu"});
    model->parameters().enable_gradients();
  }

  Batch batch(bool training = true, int64_t first = 0) const {
    std::vector<int32_t> ids;
    std::vector<uint8_t> mask;
    for (int64_t i = 0; i < kRows * kLength; ++i) {
      ids.push_back(
          static_cast<int32_t>(5 + philox_word({9, 0, 0}, static_cast<uint64_t>(i + first)) % (kVocabulary - 5)));
      mask.push_back(i % kLength < 7 || i < kLength);
    }
    Batch samples;
    samples.input_ids = Tensor::from_vector(ids, {kRows, kLength});
    samples.attention_mask = Tensor::from_vector(mask, {kRows, kLength});
    samples.first_sample = first;
    return objective->prepare(samples, {.model = *model, .vocabulary = &vocabulary, .seed = 3, .training = training});
  }

  std::vector<Variable> losses(const Batch& prepared) const {
    return objective->losses(*model, prepared, mean_scales(objective->count_targets(prepared, *model)), {});
  }

  testing::TemporaryDirectory directory;
  Vocabulary vocabulary{.special = std::vector<bool>(kVocabulary, false)};
  std::unique_ptr<Objective> objective;
  std::unique_ptr<Model> model, teacher;
};

struct Outputs {
  std::vector<float> logits, hidden;
};

Outputs outputs_of(Model& model, const Batch& batch) {
  ModelInput input;
  input.input_ids = batch.input_ids;
  input.attention_mask = batch.attention_mask;
  Outputs outputs;
  for (const auto& [name, value] : model.forward(model.prepare(input), {})) {
    if (name == "logits") outputs.logits = value.value().to_vector<float>();
    if (name == "last_hidden_state") outputs.hidden = value.value().to_vector<float>();
  }
  return outputs;
}

std::vector<double> log_softmax(const float* logits, int64_t count, double temperature) {
  std::vector<double> out;
  double largest = -INFINITY, sum = 0.0;
  for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<double>(logits[i]) / temperature);
  for (const double z : out) largest = std::max(largest, z);
  for (const double z : out) sum += std::exp(z - largest);
  for (double& z : out) z -= largest + std::log(sum);
  return out;
}

struct Expected {
  double soft = 0.0, hard = 0.0, cosine = 0.0;
};

/// The formulas in double, from the models' outputs. `projection` (teacher width, student width) may be empty.
Expected formula(const Distilled& s, const Batch& batch, double temperature, double mix,
                 const std::vector<float>& projection) {
  const Outputs own = outputs_of(*s.model, batch), theirs = outputs_of(*s.teacher, batch);
  const std::vector<int32_t> labels = batch.labels.to_vector<int32_t>();
  const std::vector<uint8_t> mask = batch.attention_mask.to_vector<uint8_t>();
  const int64_t width = s.model->info().hidden_size, wide = s.teacher->info().hidden_size;
  Expected sum;
  double targets = 0.0, tokens = 0.0;
  for (int64_t i = 0; i < kRows * kLength; ++i) {
    const auto at = static_cast<size_t>(i);
    if (labels[at] != kIgnoreIndex) {
      const float *z = own.logits.data() + i * kVocabulary, *t = theirs.logits.data() + i * kVocabulary;
      const std::vector<double> q = log_softmax(z, kVocabulary, temperature),
                                p = log_softmax(t, kVocabulary, temperature);
      const std::vector<double> plain = log_softmax(z, kVocabulary, 1.0);
      for (size_t v = 0; v < p.size(); ++v) sum.soft += temperature * temperature * std::exp(p[v]) * (p[v] - q[v]);
      const auto top = static_cast<size_t>(std::max_element(p.begin(), p.end()) - p.begin());
      sum.hard -= (1.0 - mix) * plain[static_cast<size_t>(labels[at])] + mix * plain[top];
      targets += 1.0;
    }
    if (mask[at] == 0) continue;
    std::vector<double> x;
    for (int64_t c = 0; c < wide; ++c) {
      double value = projection.empty() ? static_cast<double>(own.hidden[static_cast<size_t>(i * width + c)]) : 0.0;
      for (int64_t k = 0; !projection.empty() && k < width; ++k) {
        value += static_cast<double>(projection[static_cast<size_t>(c * width + k)]) *
                 static_cast<double>(own.hidden[static_cast<size_t>(i * width + k)]);
      }
      x.push_back(value);
    }
    double product = 0.0, xx = 0.0, yy = 0.0;
    for (int64_t c = 0; c < wide; ++c) {
      const auto y = static_cast<double>(theirs.hidden[static_cast<size_t>(i * wide + c)]);
      product += x[static_cast<size_t>(c)] * y;
      xx += x[static_cast<size_t>(c)] * x[static_cast<size_t>(c)];
      yy += y * y;
    }
    sum.cosine += 1.0 - product / std::sqrt(xx * yy);
    tokens += 1.0;
  }
  return {sum.soft / targets, sum.hard / targets, sum.cosine / tokens};
}

void expect_losses(const std::vector<Variable>& terms, const Expected& expected, double soft, double hard,
                   double cosine) {
  EXPECT_NEAR(terms.at(0).value().item(), soft * expected.soft, 1e-5 * soft * expected.soft);
  EXPECT_NEAR(terms.at(1).value().item(), hard * expected.hard, 1e-5 * hard * expected.hard);
  EXPECT_NEAR(terms.at(2).value().item(), cosine * expected.cosine, 1e-5 * cosine * expected.cosine);
}

const nlohmann::json kMlm = {{"type", "mlm"}, {"probability", 0.4}, {"mask_token_id", 4}, {"random_fraction", 0.0}};
const nlohmann::json kClm = {{"type", "clm"}};

TEST(Distillation, LossesAreThoseOfTheFormulas) {
  const Distilled s("bert", {.layers = 4}, "distilbert", {.layers = 2}, {{"inner", kMlm}});
  const Batch batch = s.batch();
  expect_losses(s.losses(batch), formula(s, batch, 2.0, 0.0, {}), 5.0, 2.0, 1.0);
}

TEST(Distillation, TeachersLabelsAreMixedIn) {
  const Distilled s("gpt2", {.layers = 3}, "gpt2", {.layers = 1},
                    {{"inner", kClm},
                     {"temperature", 1.5},
                     {"soft_weight", 0.7},
                     {"hard_weight", 1.3},
                     {"cosine_weight", 0.2},
                     {"teacher_label_mix", 0.9}});
  const Batch batch = s.batch();
  expect_losses(s.losses(batch), formula(s, batch, 1.5, 0.9, {}), 0.7, 1.3, 0.2);
}

TEST(Distillation, AnotherWidthGoesThroughAProjection) {
  const Distilled s("gpt2", {.layers = 2, .hidden = 24}, "gpt2", {.layers = 2, .hidden = 16}, {{"inner", kClm}});
  const Batch batch = s.batch();
  const Variable projection = s.model->parameters().extra("objective.hidden_projection");
  EXPECT_EQ(projection.shape(), (Shape{24, 16}));
  expect_losses(s.losses(batch), formula(s, batch, 2.0, 0.0, projection.value().to_vector<float>()), 5.0, 2.0, 1.0);

  // Gradients by central differences of the whole loss, of the projection and of the student's embeddings.
  {
    Tape tape;
    tape.backward(total_loss(s.losses(batch)));
  }
  const auto loss = [&] { return total_loss(s.losses(batch)).value().item(); };
  const Variable words = s.model->weights().front().parameter;
  for (const Variable& parameter : {projection, words}) {
    const std::vector<float> gradient = parameter.grad().to_vector<float>();
    const Tensor flat = parameter.value().reshape({parameter.value().numel()});
    double largest = 0.0;
    for (int64_t i = 80; i < flat.numel(); i += 41) {
      const Tensor one = flat.narrow(0, i, 1);
      const double before = one.item();
      one.fill(before + 5e-3);
      const double above = loss();
      one.fill(before - 5e-3);
      const double difference = (above - loss()) / 1e-2;
      one.fill(before);
      EXPECT_NEAR(static_cast<double>(gradient[static_cast<size_t>(i)]), difference, 3e-3 + 0.02 * std::abs(difference))
          << i;
      largest = std::max(largest, std::abs(difference));
    }
    EXPECT_GT(largest, 5e-3);
  }
}

TEST(Distillation, AnEvaluationReportsTheLossOfTheObjectiveItself) {
  const Distilled s("gpt2", {}, "gpt2", {.layers = 1}, {{"inner", kClm}});
  const Batch batch = s.batch(/*training=*/false);
  const std::vector<Variable> terms = s.losses(batch);
  ASSERT_EQ(terms.size(), 1u);
  const double expected = formula(s, batch, 1.0, 0.0, {}).hard;
  EXPECT_NEAR(terms[0].value().item(), expected, 1e-5 * expected);
}

TEST(Distillation, SequenceToSequence) {
  const Distilled s("t5", {.layers = 2}, "t5", {.layers = 1},
                    {{"inner", {{"type", "tensors"}}}, {"soft_weight", 1.0}, {"hard_weight", 1.0}});
  Batch samples;
  samples.input_ids = Tensor::from_vector<int32_t>({5, 6, 7, 8, 9, 10, 11, 12}, {2, 4});
  samples.labels = Tensor::from_vector<int32_t>({13, 14, 1, 15, 1, -100}, {2, 3});
  samples.labels_shifted = false;
  const Batch batch = s.objective->prepare(samples, {.model = *s.model});
  EXPECT_EQ(s.objective->count_targets(batch, *s.model), (std::vector<int64_t>{5, 5, 5}));
  const std::vector<Variable> terms = s.losses(batch);
  ModelInput input;
  input.input_ids = samples.input_ids;
  input.labels = samples.labels;
  const auto logits_of = [&](Model& model) {
    return model.forward(model.prepare(input), {}).front().second.value().to_vector<float>();
  };
  const std::vector<float> own = logits_of(*s.model), theirs = logits_of(*s.teacher);
  const std::vector<int32_t> labels = samples.labels.to_vector<int32_t>();
  Expected expected;
  for (size_t i = 0; i < 5; ++i) {
    const auto at = static_cast<int64_t>(i) * kVocabulary;
    const std::vector<double> p = log_softmax(theirs.data() + at, kVocabulary, 2.0);
    const std::vector<double> q = log_softmax(own.data() + at, kVocabulary, 2.0);
    for (size_t v = 0; v < p.size(); ++v) expected.soft += 4.0 * std::exp(p[v]) * (p[v] - q[v]) / 5.0;
    expected.hard -= log_softmax(own.data() + at, kVocabulary, 1.0)[static_cast<size_t>(labels[i])] / 5.0;
  }
  EXPECT_NEAR(terms[0].value().item(), expected.soft, 1e-5 * expected.soft);
  EXPECT_NEAR(terms[1].value().item(), expected.hard, 1e-5 * expected.hard);
}

/// Tensors of the student's files by name, as floats.
std::map<std::string, std::vector<float>> tensors_of(const Model& model) {
  std::map<std::string, std::vector<float>> tensors;
  for (const WeightSlot& slot : model.weights()) {
    tensors[slot.name] = slot.view(slot.parameter.value()).contiguous().to_vector<float>();
  }
  return tensors;
}

TEST(Distillation, StartsFromEverySecondLayer) {
  const Distilled s("bert", {.layers = 4}, "distilbert", {.layers = 2},
                    {{"inner", kMlm}, {"initialize", "every_second"}});
  const auto own = tensors_of(*s.model), theirs = tensors_of(*s.teacher);
  const std::pair<const char*, const char*> pairs[] = {
      {"distilbert.embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings.weight"},
      {"distilbert.embeddings.LayerNorm.bias", "bert.embeddings.LayerNorm.bias"},
      {"distilbert.transformer.layer.0.attention.k_lin.weight", "bert.encoder.layer.0.attention.self.key.weight"},
      {"distilbert.transformer.layer.1.attention.v_lin.weight", "bert.encoder.layer.2.attention.self.value.weight"},
      {"distilbert.transformer.layer.1.attention.out_lin.weight", "bert.encoder.layer.2.attention.output.dense.weight"},
      {"distilbert.transformer.layer.1.ffn.lin1.weight", "bert.encoder.layer.2.intermediate.dense.weight"},
      {"distilbert.transformer.layer.1.ffn.lin2.weight", "bert.encoder.layer.2.output.dense.weight"},
      {"distilbert.transformer.layer.1.sa_layer_norm.weight", "bert.encoder.layer.2.attention.output.LayerNorm.weight"},
      {"vocab_transform.weight", "cls.predictions.transform.dense.weight"},
      {"vocab_layer_norm.weight", "cls.predictions.transform.LayerNorm.weight"}};
  for (const auto& [name, source] : pairs) EXPECT_EQ(own.at(name), theirs.at(source)) << name;
}

TEST(Distillation, StartsFromNamedLayers) {
  const Distilled s("gpt2", {.layers = 5}, "gpt2", {.layers = 2}, {{"inner", kClm}, {"initialize", {1, 4}}});
  const auto own = tensors_of(*s.model), theirs = tensors_of(*s.teacher);
  for (const char* name : {".attn.c_attn.weight", ".mlp.c_proj.weight", ".mlp.c_fc.bias", ".ln_2.weight"}) {
    EXPECT_EQ(own.at(concat("transformer.h.0", name)), theirs.at(concat("transformer.h.1", name)));
    EXPECT_EQ(own.at(concat("transformer.h.1", name)), theirs.at(concat("transformer.h.4", name)));
  }
  EXPECT_EQ(own.at("transformer.wte.weight"), theirs.at("transformer.wte.weight"));
  EXPECT_EQ(own.at("transformer.ln_f.weight"), theirs.at("transformer.ln_f.weight"));
}

TEST(Distillation, BothStacksOfAnEncoderDecoderStartFromTheTeacher) {
  const Distilled s("t5", {.layers = 3}, "t5", {.layers = 2},
                    {{"inner", {{"type", "tensors"}}}, {"initialize", {1, 2}}});
  const auto own = tensors_of(*s.model), theirs = tensors_of(*s.teacher);
  for (const char* stack : {"encoder", "decoder"}) {
    EXPECT_EQ(own.at(concat(stack, ".block.1.layer.0.SelfAttention.q.weight")),
              theirs.at(concat(stack, ".block.2.layer.0.SelfAttention.q.weight")));
    EXPECT_EQ(own.at(concat(stack, ".block.0.layer.0.SelfAttention.relative_attention_bias.weight")),
              theirs.at(concat(stack, ".block.0.layer.0.SelfAttention.relative_attention_bias.weight")));
  }
}

TEST(Distillation, RefusesWhatDoesNotFit) {
  const auto message = [](const std::string& teacher, const Sizes& larger, const std::string& student,
                          const Sizes& smaller, const nlohmann::json& settings) {
    return testing::error_of([&] { Distilled(teacher, larger, student, smaller, settings); });
  };
  const std::string vocabularies = message("gpt2", {.vocabulary = 41}, "gpt2", {}, {{"inner", kClm}});
  EXPECT_NE(vocabularies.find("teacher and student have different vocabularies: 41 tokens ("), std::string::npos)
      << vocabularies;
  EXPECT_NE(vocabularies.find("40 tokens (the gpt2 model"), std::string::npos) << vocabularies;
  EXPECT_NE(message("bert", {}, "gpt2", {}, {{"inner", kClm}}).find("BertForMaskedLM"), std::string::npos);
  EXPECT_NE(message("gpt2", {.layers = 5}, "gpt2", {.layers = 2}, {{"inner", kClm}, {"initialize", "every_second"}})
                .find("2 layers from 5"),
            std::string::npos);
  EXPECT_NE(message("gpt2", {.hidden = 24}, "gpt2", {.layers = 1}, {{"inner", kClm}, {"initialize", "every_second"}})
                .find("transformer."),
            std::string::npos);
  EXPECT_NE(message("gpt2", {}, "gpt2", {}, {{"inner", kClm}, {"cache", {{"path", "x"}}}}).find("cosine_weight"),
            std::string::npos);
  EXPECT_NE(message("gpt2", {}, "gpt2", {}, {{"inner", {{"type", "rtd"}}}}).find("inner.type"), std::string::npos)
      << "objectives without token targets";
}

TEST(Distillation, ACacheOfAllTokensIsTheTeacherItself) {
  const testing::TemporaryDirectory directory;
  const nlohmann::json online = {{"inner", kClm}, {"cosine_weight", 0.0}, {"teacher_label_mix", 0.5}};
  nlohmann::json cached = online;
  cached["cache"] = {{"path", directory / "teacher.cache"}, {"top_k", kVocabulary}};
  const Distilled with("gpt2", {}, "gpt2", {.layers = 1}, cached), without("gpt2", {}, "gpt2", {.layers = 1}, online);
  const Batch batch = with.batch();
  const std::vector<Variable> a = with.losses(batch), b = without.losses(without.batch());
  for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(a[i].value().item(), b[i].value().item(), 1e-5 * b[i].value().item());
}

TEST(Distillation, ACacheKeepsTheLikeliestTokensAndTheRest) {
  const testing::TemporaryDirectory directory;
  constexpr int64_t kKept = 6;
  const nlohmann::json settings = {{"inner", kClm},
                                   {"cosine_weight", 0.0},
                                   {"soft_weight", 1.0},
                                   {"cache", {{"path", directory / "teacher.cache"}, {"top_k", kKept}}}};
  const Distilled s("gpt2", {}, "gpt2", {.layers = 1}, settings);
  const Batch batch = s.batch();
  const auto size = fs::file_size(directory / "teacher.cache");
  const Outputs own = outputs_of(*s.model, batch), theirs = outputs_of(*s.teacher, batch);
  const std::vector<int32_t> labels = batch.labels.to_vector<int32_t>();
  double soft = 0.0, targets = 0.0;
  for (int64_t i = 0; i < kRows * kLength; ++i) {
    if (labels[static_cast<size_t>(i)] == kIgnoreIndex) continue;
    const std::vector<double> p = log_softmax(theirs.logits.data() + i * kVocabulary, kVocabulary, 2.0);
    const std::vector<double> q = log_softmax(own.logits.data() + i * kVocabulary, kVocabulary, 2.0);
    std::vector<size_t> order(p.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t x, size_t y) { return p[x] > p[y]; });
    double rest_p = 0.0, rest_q = 0.0;
    for (size_t k = 0; k < order.size(); ++k) {
      const size_t v = order[k];
      if (k < kKept) {
        soft += 4.0 * std::exp(p[v]) * (p[v] - q[v]);
      } else {
        rest_p += std::exp(p[v]);
        rest_q += std::exp(q[v]);
      }
    }
    soft += 4.0 * rest_p * std::log(rest_p / rest_q);
    targets += 1.0;
  }
  EXPECT_NEAR(s.losses(batch)[0].value().item(), soft / targets, 1e-5 * soft / targets);
  s.batch();
  EXPECT_EQ(fs::file_size(directory / "teacher.cache"), size) << "the same samples are found again";
  s.batch(true, 1000);
  EXPECT_EQ(fs::file_size(directory / "teacher.cache") > size, true);
}

TEST(TeacherCache, IsFoundAgainAndCutOffWhereItIsUnfinished) {
  const testing::TemporaryDirectory directory;
  const TeacherCacheSettings settings{directory / "a/b.cache", 2, 1.5, 10, "x"};
  const TeacherPredictions first{{1, 2, 3, 4}, {0.5f, 0.25f, 0.5f, 0.125f}, {0.25f, 0.375f}},
      second{{7, 8}, {0.5f, 0.5f}, {0.0f}};
  TeacherPredictions found;
  {
    TeacherCache cache(settings);
    EXPECT_FALSE(cache.find(11, found));
    cache.append(11, first);
    cache.append(12, second);
  }
  const auto whole = fs::file_size(settings.path);
  {
    const TeacherCache cache(settings);
    EXPECT_EQ(cache.size(), 2);
    ASSERT_TRUE(cache.find(11, found));
    EXPECT_EQ(found.tokens, first.tokens);
    EXPECT_EQ(found.probabilities, first.probabilities);
    EXPECT_EQ(found.rest, first.rest);
  }
  // Wherever a killed process has stopped, what was written before is there and the next record fits behind it.
  for (uint64_t size = 0; size < whole; ++size) {
    const std::string path = directory / "cut.cache";
    fs::copy_file(settings.path, path, fs::copy_options::overwrite_existing);
    fs::resize_file(path, size);
    TeacherCacheSettings cut = settings;
    cut.path = path;
    TeacherCache cache(cut);
    EXPECT_EQ(cache.size(), size + 16 + 20 >= whole ? 1 : 0) << size;
    cache.append(13, second);
    const TeacherCache again(cut);
    EXPECT_EQ(again.size(), cache.size());
    ASSERT_TRUE(again.find(13, found));
    EXPECT_EQ(found.tokens, second.tokens);
  }
  TeacherCacheSettings other = settings;
  other.temperature = 2.0;
  EXPECT_NE(testing::error_of([&] { TeacherCache cache(other); }).find("other teacher predictions"), std::string::npos);
  other = settings;
  other.path = directory.write(
      "text", "not a cache, but long enough to hold a header of its own, and more of it still, so long");
  EXPECT_NE(testing::error_of([&] { TeacherCache cache(other); }).find("not a cache"), std::string::npos);
}

TrainConfig run_config(const testing::TemporaryDirectory& directory, const std::string& run, const std::string& more,
                       const std::vector<std::string>& overrides = {}) {
  std::vector<int32_t> ids;
  for (int i = 0; i < 24 * 10; ++i) ids.push_back(static_cast<int32_t>(philox_word({1, 0, 0}, i) % kVocabulary));
  const Tensor rows = Tensor::from_vector(ids, {24, 10});
  write_safetensors(directory / "train.safetensors", {{"input_ids", rows}, {"labels", rows}});
  save_model(
      *create_model(directory.write("teacher.json", config_of("gpt2", {.layers = 4, .hidden = 24})), DType::f32, {}, 5),
      directory / "teacher");
  directory.write("student.json", config_of("gpt2", {.layers = 2}));
  return TrainConfig::from_json(
      concat(R"({"model": {"config": ")", directory / "student.json", R"("}, "data": {"train": [{"path": ")",
             directory / "train.safetensors", R"("}], "validation": [{"path": ")", directory / "train.safetensors",
             R"("}]}, "objective": {"type": "distillation", "inner": {"type": "tensors"}, "teacher": {"path": ")",
             directory / "teacher", "\"}", more, R"(},
      "optimizer": {"learning_rate": 1e-2, "ema_decay": 0.5}, "evaluation": {"every": 4},
      "train": {"steps": 8, "batch_size": 4, "micro_batch_size": 2}, "checkpoint": {"every": 2}, "output": ")",
             directory / run, "\"}"),
      overrides);
}

TEST(Distillation, ARunIsTheSameAfterAnInterruption) {
  const testing::TemporaryDirectory directory;
  for (const bool cached : {false, true}) {
    const auto settings = [&](const std::string& run) {
      return cached ? concat(R"(, "cosine_weight": 0, "cache": {"path": ")", directory / run, R"(.cache", "top_k": 5})")
                    : std::string();
    };
    const std::string whole = cached ? "cached" : "whole", parts = cached ? "cached-parts" : "parts";
    Trainer(run_config(directory, whole, settings(whole)), {.device = "cpu"}).run();
    testing::run_in_parts(run_config(directory, parts, settings(parts)), {3, 6});
    std::vector<std::string> files = {"final/model.safetensors", "checkpoint-8/optimizer.safetensors"};
    if (!cached) files.push_back("checkpoint-8/extra.safetensors");
    testing::expect_same_files(directory, whole, parts, files);
    EXPECT_FALSE(fs::exists(directory / whole + "/final/extra.safetensors"));
  }
}

/// Batches of 40 of 24 samples: in several parts, and some samples twice.
TEST(Distillation, RanksShareACache) {
  const testing::TemporaryDirectory directory;
  const std::vector<std::string> overrides = {"train.batch_size=40", "train.steps=4"};
  const auto config = [&](const std::string& run) {
    return run_config(
        directory, run,
        concat(R"(, "cosine_weight": 0, "cache": {"path": ")", directory / run, R"(.cache", "top_k": 5})"), overrides);
  };
  for (const int ranks : {1, 2, 3}) {
    const std::string run = concat("on", ranks);
    const TrainConfig train = config(run);
    const auto errors = testing::run_ranks(ranks, [&](const RankInfo& info,
                                                      const std::shared_ptr<Rendezvous>& meeting) {
      const auto world = make_communicator(info, meeting);
      for (const int64_t stop : {2, -1}) {  // the second time the file is there
        testing::RunWatch watch(stop);
        Trainer(train, {.device = "cpu", .stop = &watch.stop, .communicator = world.get(), .observer = &watch}).run();
      }
    });
    ASSERT_EQ(errors, std::vector<std::string>(static_cast<size_t>(ranks)));
    EXPECT_EQ(testing::timeless_metrics(directory / run), testing::timeless_metrics(directory / "on1"));
    testing::expect_same_files(directory, "on1", run, {"final/model.safetensors"});
    EXPECT_EQ(directory.read(run + ".cache"), directory.read("on1.cache"));
  }
}

}  // namespace
}  // namespace ondol
