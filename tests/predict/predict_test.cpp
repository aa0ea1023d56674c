// Predictions against what the model's outputs say when each text runs alone, and against published embeddings.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include <ondol/io/safetensors.h>
#include <ondol/predict/predict.h>

#include <gtest/gtest.h>

#include "base/json_reader.h"
#include "support/error_of.h"
#include "support/test_data.h"
#include "support/test_device.h"
#include "support/tiny_bert.h"

namespace ondol {
namespace {

struct Loaded {
  explicit Loaded(const std::string& architecture, const std::string& more = "")
      : files(architecture, more),
        model(load_model(files.path(), {.device = to_string(testing::test_device())})),
        tokenizer(load_tokenizer(files.path())) {}

  /// An output of the model on one text alone.
  std::vector<float> output(const TextInput& text, const std::string& wanted) {
    const Encoding encoding =
        text.pair ? tokenizer.encode_detailed(text.text, *text.pair) : tokenizer.encode_detailed(text.text);
    const Shape shape{1, static_cast<int64_t>(encoding.ids.size())};
    ModelInput input;
    input.input_ids = Tensor::from_vector(encoding.ids, shape);
    input.token_type_ids = Tensor::from_vector(encoding.type_ids, shape);
    for (const auto& [name, value] : model->forward(model->prepare(input).to(model->device()), {})) {
      if (name == wanted) return value.value().to_vector<float>();
    }
    throw Error("no output " + wanted);
  }

  testing::TinyBert files;
  std::unique_ptr<Model> model;
  Tokenizer tokenizer;
};

std::vector<TextInput> some_texts() {
  return {{"the cat"}, {"the red house is on the log ."}, {""}, {"dogs"}, {"who sat in the blue house", "the cats ."}};
}

std::vector<double> softmax(const std::vector<float>& scores, size_t begin, size_t count) {
  std::vector<double> p;
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(scores[begin + i]));
  for (size_t i = 0; i < count; ++i) p.push_back(std::exp(static_cast<double>(scores[begin + i])) / sum);
  return p;
}

TEST(Embed, IsThePooledHiddenStateOfEachTextAlone) {
  Loaded bert("BertModel");
  const std::vector<TextInput> texts = some_texts();
  for (const int64_t batch : {1, 12, 0}) {
    const Tensor rows = embed(*bert.model, bert.tokenizer, texts, {.texts = {.batch_tokens = batch}});
    const Tensor cls = embed(*bert.model, bert.tokenizer, texts, {.pooling = Pooling::cls, .normalize = true});
    ASSERT_EQ(rows.shape(), (Shape{5, 16}));
    for (size_t i = 0; i < texts.size(); ++i) {
      const std::vector<float> hidden = bert.output(texts[i], "last_hidden_state");
      const std::vector<float> row = rows.select(0, static_cast<int64_t>(i)).to_vector<float>();
      const std::vector<float> first = cls.select(0, static_cast<int64_t>(i)).to_vector<float>();
      double length = 0;
      for (size_t c = 0; c < 16; ++c) length += static_cast<double>(hidden[c]) * hidden[c];
      for (size_t c = 0; c < 16; ++c) {
        double mean = 0;
        for (size_t at = c; at < hidden.size(); at += 16) mean += hidden[at];
        EXPECT_NEAR(row[c], mean / (static_cast<double>(hidden.size()) / 16), 1e-5) << i;
        EXPECT_NEAR(first[c], hidden[c] / std::sqrt(length), 1e-5) << i;
      }
    }
  }
}

TEST(Embed, AllMiniLmGivesThePublishedVectors) {
  ONDOL_REQUIRE_DATA("models/all-minilm-l6-v2");
  const auto modules = read_sentence_modules(test::data_path("models/all-minilm-l6-v2"));
  ASSERT_TRUE(modules.has_value());
  EXPECT_TRUE(modules->options.normalize);
  EXPECT_EQ(modules->options.texts.max_tokens, 256);
  const auto model = load_model(modules->model_directory, {.device = "cpu"});
  const Tokenizer tokenizer = load_tokenizer(modules->model_directory);
  const Json sentences = load_json(test::data_path("vectors/minilm/sentences.json"));
  std::vector<TextInput> texts;
  for (const Json& each : sentences.at("sentences")) texts.push_back({each.at("text").get<std::string>()});
  texts.push_back({""});
  for (int i = 0; i < 300; ++i) texts.back().text += "bread ";  // cut to 256
  const Tensor rows = embed(*model, tokenizer, texts, modules->options);
  const Tensor expected =
      SafetensorsFile(test::data_path("vectors/minilm/embeddings.safetensors")).tensor("embeddings");
  const std::vector<float> a = rows.to_vector<float>(), b = expected.to_vector<float>();
  ASSERT_EQ(a.size(), b.size() + 384);
  for (size_t i = 0; i < b.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-6) << i / 384;
  // What one text gives does not depend on the others.
  for (const size_t i : {size_t{0}, size_t{4}}) {
    const Tensor alone = embed(*model, tokenizer, std::span(texts).subspan(i, 1), modules->options);
    const std::vector<float> row = alone.to_vector<float>();
    for (size_t c = 0; c < 384; ++c) ASSERT_NEAR(row[c], a[384 * i + c], 1e-6);
  }
}

TEST(Embed, ModulesThatAreNotKnown) {
  const testing::TemporaryDirectory directory;
  EXPECT_FALSE(read_sentence_modules(directory.path()).has_value());
  directory.write("modules.json", R"([{"type": "sentence_transformers.models.Transformer", "path": ""},
      {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}])");
  std::filesystem::create_directory(directory / "1_Pooling");
  directory.write("1_Pooling/config.json", R"({"pooling_mode_mean_tokens": false, "pooling_mode_max_tokens": true})");
  EXPECT_EQ(read_sentence_modules(directory.path())->options.pooling, Pooling::max);
  EXPECT_FALSE(read_sentence_modules(directory.path())->options.normalize);
  const auto error = [&] { return testing::error_of([&] { read_sentence_modules(directory.path()); }); };
  directory.write("1_Pooling/config.json", R"({"pooling_mode_lasttoken": true})");
  EXPECT_NE(error().find("pooling_mode_lasttoken"), std::string::npos);
  directory.write("modules.json", R"([{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}])");
  EXPECT_NE(error().find("Dense"), std::string::npos);
  directory.write("modules.json", R"([{"type": "sentence_transformers.models.Transformer", "path": "../other"}])");
  EXPECT_NE(error().find("out of the directory"), std::string::npos);
}

TEST(Classify, LabelsByProbability) {
  Loaded bert("BertForSequenceClassification", R"(, "id2label": {"0": "bad", "1": "fair", "2": "good"})");
  const std::vector<TextInput> texts = some_texts();
  const auto results = classify(*bert.model, bert.tokenizer, texts);
  ASSERT_EQ(results.size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::vector<double> expected = softmax(bert.output(texts[i], "logits"), 0, 3);
    const std::vector<std::string> names = {"bad", "fair", "good"};
    ASSERT_EQ(results[i].size(), 3u);
    EXPECT_GE(results[i][0].score, results[i][1].score);
    EXPECT_GE(results[i][1].score, results[i][2].score);
    for (const LabelScore& each : results[i]) {
      const auto at = std::find(names.begin(), names.end(), each.label) - names.begin();
      EXPECT_NEAR(each.score, expected[static_cast<size_t>(at)], 1e-6) << each.label;
    }
  }
  Loaded value("BertForSequenceClassification", R"(, "num_labels": 1)");
  const auto values = classify(*value.model, value.tokenizer, texts);
  EXPECT_EQ(values[0][0].label, "LABEL_0");
  EXPECT_NEAR(values[0][0].score, value.output(texts[0], "logits")[0], 1e-5);
}

TEST(ClassifyTokens, EveryTokenAtItsPlace) {
  Loaded bert("BertForTokenClassification", R"(, "num_labels": 4)");
  const std::vector<TextInput> texts = {{"The dogs sat"}, {"who ?", "the cat"}};
  const auto results = classify_tokens(*bert.model, bert.tokenizer, texts);
  std::vector<std::string> spelled, written;
  for (const TokenLabel& token : results[0]) {
    spelled.push_back(token.token);
    written.push_back(texts[0].text.substr(token.range.begin, token.range.end - token.range.begin));
  }
  EXPECT_EQ(spelled, (std::vector<std::string>{"the", "dog", "##s", "sat"}));
  EXPECT_EQ(written, (std::vector<std::string>{"The", "dog", "s", "sat"}));
  const std::vector<float> logits = bert.output(texts[0], "logits");
  for (size_t t = 0; t < 4; ++t) {  // behind [CLS]
    const std::vector<double> expected = softmax(logits, 4 * (t + 1), 4);
    EXPECT_NEAR(results[0][t].label.score, *std::max_element(expected.begin(), expected.end()), 1e-6);
  }
  ASSERT_EQ(results[1].size(), 4u);
  EXPECT_FALSE(results[1][1].in_pair);
  EXPECT_TRUE(results[1][2].in_pair);
}

TEST(FillMasks, TheMostLikelyTokensOfEachMask) {
  Loaded bert("BertForMaskedLM");
  const std::vector<TextInput> texts = {{"the [MASK] sat on the [MASK] ."}, {"[MASK]"}};
  const auto results = fill_masks(*bert.model, bert.tokenizer, texts, 3);
  ASSERT_EQ(results[0].size(), 6u);
  ASSERT_EQ(results[1].size(), 3u);
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::vector<float> logits = bert.output(texts[i], "logits");
    for (size_t n = 0; n < results[i].size(); ++n) {
      const MaskFill& fill = results[i][n];
      const std::vector<double> p = softmax(logits, 20 * static_cast<size_t>(fill.position), 20);
      std::vector<double> sorted = p;
      std::sort(sorted.rbegin(), sorted.rend());
      EXPECT_NEAR(fill.score, p[static_cast<size_t>(fill.id)], 1e-6);
      EXPECT_NEAR(fill.score, sorted[n % 3], 1e-6);
      EXPECT_EQ(fill.token, bert.tokenizer.decode({{fill.id}}));
    }
  }
  EXPECT_EQ(results[0][0].position, 2);
  EXPECT_EQ(results[0][5].position, 6);
}

TEST(AnswerQuestions, TheBestSpansOfTheContext) {
  Loaded bert("BertForQuestionAnswering");
  const TextInput text{"who sat", "The cat sat on the red mat ."};
  const auto answers = answer_questions(*bert.model, bert.tokenizer, {{text}}, {.count = 40, .max_answer_tokens = 3});
  // [CLS] who sat [SEP] the cat sat on the red mat . [SEP]
  const std::vector<float> start = bert.output(text, "start_logits"), end = bert.output(text, "end_logits");
  std::vector<double> expected;
  double sum = 0.0;
  for (size_t i = 4; i <= 11; ++i) {
    for (size_t j = i; j <= 11 && j < i + 3; ++j) {
      expected.push_back(std::exp(static_cast<double>(start[i]) + end[j]));
      sum += expected.back();
    }
  }
  std::sort(expected.rbegin(), expected.rend());
  ASSERT_GE(answers[0].size(), 20u);
  EXPECT_NEAR(answers[0][0].score, expected[0] / sum, 1e-6);
  EXPECT_NEAR(answers[0][1].score, expected[1] / sum, 1e-6);
  for (const Answer& answer : answers[0]) {
    EXPECT_EQ(text.pair->substr(answer.range.begin, answer.range.end - answer.range.begin), answer.text);
  }
}

/// The model has 16 positions: windows of 11 tokens of the context, of which 4 are those of the window before.
TEST(AnswerQuestions, LongContextsAreReadInWindows) {
  Loaded bert("BertForQuestionAnswering");
  const std::vector<std::string> words = {"the", "cat", "dog", "sat", "on",   "mat",   "log",
                                          "red", "who", "is",  "in",  "blue", "house", "."};
  std::string context;
  std::vector<size_t> begins;
  for (size_t i = 0; i < 29; ++i) {
    begins.push_back(context.size() + (i > 0 ? 1 : 0));
    context += (i > 0 ? " " : "") + words[(i * i + 3 * i) % words.size()];
  }
  begins.push_back(context.size() + 1);
  struct Best {
    double score = -1e9;
    size_t begin = 0, end = 0;
  } best;
  double null_score = 1e9;
  for (size_t first = 0; first < 22; first += 7) {
    const size_t last = std::min<size_t>(first + 11, 29);
    const TextInput piece{"who sat", context.substr(begins[first], begins[last] - 1 - begins[first])};
    const std::vector<float> start = bert.output(piece, "start_logits"), end = bert.output(piece, "end_logits");
    null_score = std::min(null_score, static_cast<double>(start[0]) + end[0]);
    for (size_t i = first; i < last; ++i) {
      for (size_t j = i; j < std::min(last, i + 3); ++j) {
        const double score = static_cast<double>(start[4 + i - first]) + end[4 + j - first];
        if (score > best.score) best = {score, begins[i], begins[j + 1] - 1};
      }
    }
  }
  AnswerOptions options{.max_answer_tokens = 3, .stride = 4};
  const std::vector<TextInput> texts = {{"who sat", context}, {"who", "the cat ."}};
  const auto answers = answer_questions(*bert.model, bert.tokenizer, texts, options);
  ASSERT_EQ(answers[0].size(), 1u);
  EXPECT_EQ(answers[0][0].range, (TextRange{best.begin, best.end}));
  EXPECT_EQ(answers[0][0].text, context.substr(best.begin, best.end - best.begin));
  options.no_answer_threshold = null_score - best.score + 1e-3;
  EXPECT_EQ(answer_questions(*bert.model, bert.tokenizer, texts, options)[0][0].range,
            (TextRange{best.begin, best.end}));
  options.no_answer_threshold = null_score - best.score - 1e-3;
  EXPECT_EQ(answer_questions(*bert.model, bert.tokenizer, texts, options)[0][0].text, "");
}

TEST(Predict, TextsThatDoNotFit) {
  Loaded bert("BertModel");
  std::vector<TextInput> texts = {{"the cat"}, {"the the the the the the the the the the the the the the the the"}};
  texts[1].place = "texts.jsonl line 2";
  const auto error = [&](const auto& action) { return testing::error_of(action); };
  const std::string too_long = error([&] { embed(*bert.model, bert.tokenizer, texts, {}); });
  EXPECT_NE(too_long.find("18 tokens, at most 16 are possible (texts.jsonl line 2)"), std::string::npos) << too_long;
  EXPECT_EQ(embed(*bert.model, bert.tokenizer, texts, {.texts = {.truncate = true}}).size(0), 2);
  EXPECT_NE(error([&] { classify(*bert.model, bert.tokenizer, texts); }).find("BertModel"), std::string::npos);
  EXPECT_NE(error([&] { fill_masks(*bert.model, bert.tokenizer, texts, 1); }).find("masked language model"),
            std::string::npos);
  Loaded masked("BertForMaskedLM");
  EXPECT_NE(error([&] { fill_masks(*masked.model, masked.tokenizer, {{texts[0]}}, 1); }).find("[MASK]"),
            std::string::npos);
  Loaded answers("BertForQuestionAnswering");
  EXPECT_NE(error([&] { answer_questions(*answers.model, answers.tokenizer, {{texts[0]}}); }).find("context"),
            std::string::npos);
}

}  // namespace
}  // namespace ondol
