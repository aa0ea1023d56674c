// Decoding of encoder-decoders: the rules of generation configurations against transformers, batches, and a trained
// model with published translations.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include <ondol/generate/beam_search.h>
#include <ondol/generate/generate.h>
#include <ondol/io/safetensors.h>
#include <ondol/ops/reduce.h>

#include <gtest/gtest.h>

#include "base/json_reader.h"
#include "generate/decode_step.h"
#include "support/temporary_directory.h"
#include "support/test_data.h"

namespace ondol {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

/// What transformers 5.23 generated in float64 from a model of hf_tiny with these settings in its generation
/// configuration.
struct RulesCase {
  const char* model;
  const char* rules;
  Ids prompt;
  int64_t num_beams, max_new_tokens;
  double length_penalty;
  bool early_stopping;
  float repetition_penalty;
  std::vector<Ids> tokens;     // of all hypotheses
  std::vector<double> scores;  // of beams
};

const RulesCase kRulesCases[] = {
    {"t5",
     R"({"no_repeat_ngram_size": 2})",
     {29, 48, 63, 45, 30, 40, 118, 8},
     1,
     12,
     1.0,
     false,
     1.0f,
     {{91, 121, 91, 77, 91, 123, 12, 0, 12, 117, 114, 12}},
     {}},
    {"t5",
     R"({"no_repeat_ngram_size": 2, "min_length": 9})",
     {29, 48, 63, 45, 30, 40, 118, 8},
     3,
     12,
     0.4,
     true,
     1.0f,
     {{91, 121, 91, 77, 32, 73, 77, 91, 23, 125, 56, 69},
      {91, 121, 91, 77, 32, 73, 77, 55, 69, 19, 125, 56},
      {91, 121, 91, 77, 32, 73, 77, 55, 69, 19, 125, 69}},
     {-8.2760792, -8.3824186, -8.3864861}},
    {"t5",
     R"({"forced_bos_token_id": 7, "forced_eos_token_id": 24, "min_new_tokens": 6})",
     {29, 48, 63, 45, 30, 40, 118, 8},
     3,
     8,
     1.0,
     false,
     1.0f,
     {{7, 88, 30, 33, 0, 126, 0, 24}, {7, 88, 30, 33, 0, 125, 26, 24}, {7, 88, 30, 33, 0, 125, 33, 24}},
     {-1.4565374, -1.4941019, -1.5348102}},
    {"bart",
     R"({"no_repeat_ngram_size": 3, "forced_bos_token_id": 0, "forced_eos_token_id": 2, "min_length": 6})",
     {35, 46, 124, 71, 126},
     1,
     10,
     1.0,
     false,
     1.0f,
     {{0, 84, 41, 71, 71, 71, 41, 6, 71, 2}},
     {}},
    {"bart",
     R"({"no_repeat_ngram_size": 3, "forced_bos_token_id": 0, "forced_eos_token_id": 2, "min_length": 6})",
     {35, 46, 124, 71, 126},
     4,
     10,
     2.0,
     true,
     1.0f,
     {{0, 84, 6, 71, 71, 71, 27, 37, 71, 2},
      {0, 84, 37, 71, 27, 71, 74, 37, 71, 2},
      {0, 84, 37, 71, 27, 71, 71, 37, 71, 2},
      {0, 84, 6, 71, 71, 71, 27, 37, 27, 2}},
     {-0.1404339, -0.1442759, -0.1456737, -0.1472989}},
    {"bart",
     R"({"no_repeat_ngram_size": 1})",
     {35, 46, 124, 71, 126},
     2,
     6,
     1.0,
     false,
     1.0f,
     {{71, 84, 6, 27, 37, 41}, {71, 84, 37, 27, 6, 41}},
     {-2.0989368, -2.1210358}},
    {"mbart",
     R"({"forced_bos_token_id": 71, "forced_eos_token_id": 2})",
     {20, 17, 93, 100, 115, 29},
     2,
     7,
     1.0,
     false,
     1.0f,
     {{71, 118, 118, 118, 118, 118, 2}, {71, 118, 118, 118, 118, 90, 2}},
     {-0.7346451, -0.9415439}},
    {"marian",
     R"({"forced_eos_token_id": 0, "no_repeat_ngram_size": 2})",
     {20, 17, 93, 100, 115, 29},
     4,
     9,
     0.7,
     false,
     1.0f,
     {{121, 121, 21, 17, 121, 58, 57, 58, 0},
      {121, 121, 21, 17, 121, 58, 57, 35, 0},
      {121, 121, 21, 17, 121, 58, 57, 21, 0},
      {121, 121, 21, 17, 121, 58, 57, 121, 0}},
     {-5.0965567, -5.1015682, -5.1046147, -5.112258}},
    {"bart",
     R"({})",
     {35, 46, 124, 71, 126},
     3,
     9,
     1.0,
     false,
     1.7f,
     {{71, 84, 6, 27, 71, 41, 54, 37, 71}, {71, 84, 6, 27, 71, 41, 54, 37, 36}, {71, 84, 6, 27, 71, 41, 54, 37, 27}},
     {-2.2845702, -2.3386092, -2.359894}},
};

/// The model with further settings in its generation configuration.
std::unique_ptr<Model> load_with_rules(const std::string& name, const std::string& rules) {
  const fs::path source = test::data_path("hf_tiny/" + name);
  const testing::TemporaryDirectory directory;
  for (const char* file : {"config.json", "model.safetensors"}) fs::copy_file(source / file, directory / file);
  Json config = load_json((source / "generation_config.json").string());
  config.update(Json::parse(rules));
  directory.write("generation_config.json", config.dump());
  return load_model(directory.path(), {.device = "cpu", .dtype = DType::f32});
}

TEST(EncoderDecoderGeneration, RulesOfTheConfigurationHold) {
  ONDOL_REQUIRE_DATA("hf_tiny/bart");
  for (const RulesCase& known : kRulesCases) {
    SCOPED_TRACE(concat(known.model, " ", known.rules, " beams ", known.num_beams));
    const auto model = load_with_rules(known.model, known.rules);
    if (known.num_beams == 1) {
      const GenerateOptions options{.max_new_tokens = known.max_new_tokens};
      EXPECT_EQ(generate_ids(*model, {known.prompt}, options)[0].tokens, known.tokens[0]);
      // Beside other prompts, and as one beam of a search, the same.
      const auto together = generate_ids(*model, {{3, 5}, known.prompt, {9, 8, 7, 6, 5, 4, 3, 10, 11}}, options);
      EXPECT_EQ(together[1].tokens, known.tokens[0]);
      continue;
    }
    BeamSearchOptions options;
    options.num_beams = known.num_beams;
    options.max_new_tokens = known.max_new_tokens;
    options.length_penalty = known.length_penalty;
    options.early_stopping = known.early_stopping;
    options.repetition_penalty = known.repetition_penalty;
    options.eos_token_ids = model->info().eos_token_ids;
    const std::vector<BeamHypothesis> found = beam_search(*model, known.prompt, options);
    ASSERT_EQ(found.size(), known.tokens.size());
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].tokens, known.tokens[i]) << i;
      EXPECT_NEAR(found[i].score, known.scores[i], 2e-5) << i;
    }
  }
}

class EncoderDecoderBatches : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, EncoderDecoderBatches, ::testing::Values("t5", "bart", "marian"));

/// Padding behind a source changes nothing to the last bit.
TEST_P(EncoderDecoderBatches, LogitsDoNotDependOnTheBatch) {
  ONDOL_REQUIRE_DATA(std::string("hf_tiny/") + GetParam());
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto model =
        load_model(test::data_path(std::string("hf_tiny/") + GetParam()), {.device = "cpu", .dtype = dtype});
    const std::vector<Ids> sources = {{5, 17, 2}, {9, 8, 7, 6, 5, 4, 3, 10, 11, 12, 99}, {100}};
    const std::vector<std::span<const int32_t>> rows(sources.begin(), sources.end());
    const Ids next = {7, 8, 9};
    KvCache cache = model->make_cache(3, 8);
    encode_sources(*model, rows, cache);
    Decoder decoder(*model, cache);
    const Tensor first = decoder.step({{&next[0], 1}, {&next[1], 1}, {&next[2], 1}}).clone();
    const Tensor second = decoder.step({{&next[1], 1}, {&next[2], 1}, {&next[0], 1}});
    for (size_t b = 0; b < sources.size(); ++b) {
      KvCache alone = model->make_cache(1, 8);
      encode_sources(*model, {rows[b]}, alone);
      Decoder single(*model, alone);
      const auto row = static_cast<int64_t>(b);
      EXPECT_EQ(single.step({{&next[b], 1}}).to_vector<float>(), first.select(0, row).to_vector<float>()) << b;
      EXPECT_EQ(single.step({{&next[(b + 1) % 3], 1}}).to_vector<float>(), second.select(0, row).to_vector<float>())
          << b;
    }
  }
}

TEST(EncoderDecoderGeneration, RefusesImpossibleRequests) {
  ONDOL_REQUIRE_DATA("hf_tiny/bart");
  const auto model = load_model(test::data_path("hf_tiny/bart"), {.device = "cpu", .dtype = DType::f32});
  EXPECT_THROW(generate_ids(*model, {Ids(41, 5)}, {}), UsageError);
  EXPECT_THROW(generate_ids(*model, {{131}}, {}), UsageError);
  EXPECT_THROW(generate_ids(*model, {{}}, {}), UsageError);
  const GenerateResult full = generate_ids(*model, {Ids(40, 5)}, {.max_new_tokens = 1000, .ignore_eos = true})[0];
  EXPECT_EQ(full.tokens.size(), 39u);
  EXPECT_EQ(full.finish_reason, FinishReason::length);
  EXPECT_EQ(full.prompt_tokens, 40);
}

/// Arabic to Latin letters, trained with OpenNMT; expected.json has what CTranslate2 says of it.
class Transliteration : public ::testing::Test {
 protected:
  void SetUp() override {
    ONDOL_REQUIRE_DATA("models/transliteration-aren");
    const std::string directory = test::data_path("models/transliteration-aren");
    model_ = load_model(directory, {.device = "cpu", .dtype = DType::f32});
    source_ = read_vocabulary(directory + "/source_vocabulary.txt");
    target_ = read_vocabulary(directory + "/target_vocabulary.txt");
    expected_ = load_json(test::data_path("vectors/transliteration-aren/expected.json"));
  }

  static std::map<std::string, int32_t> read_vocabulary(const std::string& path) {
    std::map<std::string, int32_t> ids;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) ids.emplace(line, static_cast<int32_t>(ids.size()));
    return ids;
  }

  static Ids ids_of(const Json& tokens, const std::map<std::string, int32_t>& vocabulary) {
    Ids ids;
    for (const Json& token : tokens) ids.push_back(vocabulary.at(token.get<std::string>()));
    return ids;
  }

  Ids with_end(Ids ids) const {
    ids.push_back(target_.at("</s>"));
    return ids;
  }

  static Tensor row(const Ids& ids) { return Tensor::from_vector(ids, {1, static_cast<int64_t>(ids.size())}); }

  std::unique_ptr<Model> model_;
  std::map<std::string, int32_t> source_, target_;
  Json expected_;
};

TEST_F(Transliteration, StatesAndLogits) {
  const SafetensorsFile known(test::data_path("vectors/transliteration-aren/forward.safetensors"));
  const auto ids = [&](const char* name) { return known.tensor(name).reshape({1, -1}); };
  const ModelInput input =
      model_->prepare({.input_ids = ids("source_ids"), .decoder_input_ids = ids("decoder_input_ids")});
  const std::map<std::string, std::string> names = {{"encoder_last_hidden_state", "encoder_output"},
                                                    {"logits", "logits"}};
  size_t compared = 0;
  for (const auto& [name, value] : model_->forward(input, {})) {
    if (!names.contains(name)) continue;
    const std::vector<float> a = value.value().to_vector<float>();
    const std::vector<float> b = known.tensor(names.at(name)).to_vector<float>();
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5) << name << " " << i;
    ++compared;
  }
  EXPECT_EQ(compared, 2u);
}

TEST_F(Transliteration, PublishedLogProbabilities) {
  ASSERT_GE(expected_["scoring"].size(), 4u);
  for (const Json& sample : expected_["scoring"]) {
    const Ids labels = with_end(ids_of(sample["target"], target_));
    const ModelInput input =
        model_->prepare({.input_ids = row(ids_of(sample["source"], source_)), .labels = row(labels)});
    EXPECT_EQ(input.decoder_input_ids.to_vector<int32_t>()[0], target_.at("<s>"));
    const Tensor scores = ops::log_softmax(model_->logits(model_->hidden(input, {}).value()));
    const auto& known = sample["token_logprobs"];
    ASSERT_EQ(known.size(), labels.size());
    for (size_t t = 0; t < labels.size(); ++t) {
      const double score = scores.select(0, 0).select(0, static_cast<int64_t>(t)).select(0, labels[t]).item();
      EXPECT_NEAR(score, known[t].get<double>(), 1e-5) << t;
    }
  }
}

TEST_F(Transliteration, PublishedOutputs) {
  std::vector<Ids> sources, targets;
  for (const Json& sample : expected_["greedy_and_beam"]) {
    sources.push_back(ids_of(sample["source"], source_));
    targets.push_back(with_end(ids_of(sample["output"], target_)));
    for (const Json& beams : sample["beam_sizes"]) {
      GenerateOptions options{.max_new_tokens = 20};
      options.num_beams = beams.get<int64_t>();
      const GenerateResult result = generate_ids(*model_, {sources.back()}, options)[0];
      EXPECT_EQ(result.tokens, targets.back()) << options.num_beams;
      EXPECT_EQ(result.finish_reason, FinishReason::stop);
    }
  }
  ASSERT_GE(sources.size(), 2u);
  const std::vector<GenerateResult> together = generate_ids(*model_, sources, {.max_new_tokens = 20});
  for (size_t i = 0; i < sources.size(); ++i) EXPECT_EQ(together[i].tokens, targets[i]) << i;
}

/// Decoding goes on from a beginning that is given.
TEST_F(Transliteration, PublishedContinuations) {
  int compared = 0;
  for (const Json& sample : expected_["prefix_constrained"]) {
    if (sample.contains("beam_size")) continue;
    const Ids source = ids_of(sample["source"], source_), wanted = with_end(ids_of(sample["output"], target_));
    Ids tokens = ids_of(sample["prefix"], target_);
    Ids read = {target_.at("<s>")};
    read.insert(read.end(), tokens.begin(), tokens.end());
    KvCache cache = model_->make_cache(1, 24);
    encode_sources(*model_, {source}, cache);
    Decoder decoder(*model_, cache);
    Tensor logits = decoder.step({read});
    while (tokens.size() < 20 && tokens.back() != target_.at("</s>")) {
      tokens.push_back(ops::argmax(logits).to_vector<int32_t>()[0]);
      logits = decoder.step({{&tokens.back(), 1}});
    }
    EXPECT_EQ(tokens, wanted);
    ++compared;
  }
  EXPECT_GE(compared, 2);
}

}  // namespace
}  // namespace ondol
