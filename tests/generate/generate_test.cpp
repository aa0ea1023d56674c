// Greedy decoding and beam search against transformers (hf_tiny), batches, stop strings, limits.
#include <ondol/generate/beam_search.h>
#include <ondol/generate/generate.h>

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "base/json_reader.h"
#include "generate/decode_step.h"
#include "support/hf_tiny.h"
#include "support/test_data.h"

namespace ondol {
namespace {

using Ids = std::vector<int32_t>;

std::unique_ptr<Model> load_tiny(const std::string& name) {
  return load_model(test::data_path("hf_tiny/" + name), {.device = "cpu", .dtype = DType::f32});
}

Json load_answers(const std::string& relative) { return load_json(test::data_path("hf_tiny/" + relative)); }

class Greedy : public ::testing::TestWithParam<std::string> {};

TEST_P(Greedy, AloneAndTogetherGiveTheReferenceTokens) {
  const std::string name = GetParam();
  ONDOL_REQUIRE_DATA("hf_tiny/" + name);
  const auto model = load_tiny(name);
  const Json answers = load_answers(name + "/greedy.json");
  GenerateOptions options;
  options.max_new_tokens = answers["max_new_tokens"].get<int64_t>();
  options.ignore_eos = true;

  std::vector<Ids> prompts, expected;
  for (const Json& result : answers["results"]) {
    prompts.push_back(result["prompt_ids"].get<Ids>());
    expected.push_back(result["tokens"].get<Ids>());
    EXPECT_EQ(generate_ids(*model, {prompts.back()}, options)[0].tokens, expected.back());
  }
  ASSERT_GE(prompts.size(), 3u);
  const std::vector<GenerateResult> together = generate_ids(*model, prompts, options);
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(together[i].tokens, expected[i]) << i;
    EXPECT_EQ(together[i].finish_reason, FinishReason::length);
    EXPECT_EQ(together[i].prompt_tokens, static_cast<int64_t>(prompts[i].size()));
  }
}

INSTANTIATE_TEST_SUITE_P(Decoders, Greedy, ::testing::ValuesIn(testing::kCausalReferences),
                         [](const auto& parameter) { return testing::reference_test_name(parameter.param); });
INSTANTIATE_TEST_SUITE_P(EncoderDecoders, Greedy, ::testing::ValuesIn(testing::kEncoderDecoderReferences),
                         [](const auto& parameter) { return testing::reference_test_name(parameter.param); });

class Beams : public ::testing::TestWithParam<const char*> {};

TEST_P(Beams, AllHypothesesAndScoresAreTheReference) {
  const std::string name = GetParam();
  ONDOL_REQUIRE_DATA("hf_tiny/" + name);
  const auto model = load_tiny(name);
  const Json answers = load_answers(name + "/beam.json");
  int compared = 0;
  for (const Json& result : answers["results"]) {
    BeamSearchOptions options;
    options.num_beams = result["num_beams"].get<int64_t>();
    options.length_penalty = result["length_penalty"].get<double>();
    options.early_stopping = result["early_stopping"].get<bool>();
    options.max_new_tokens = result["max_new_tokens"].get<int64_t>();
    if (!result["eos_token_id"].is_null()) options.eos_token_ids = {result["eos_token_id"].get<int32_t>()};
    const Ids prompt = result["prompt_ids"].get<Ids>();
    const std::vector<BeamHypothesis> found = beam_search(*model, prompt, options);
    ASSERT_EQ(found.size(), result["tokens"].size());
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].tokens, result["tokens"][i].get<Ids>()) << compared << " hypothesis " << i;
      EXPECT_NEAR(found[i].score, result["scores"][i].get<double>(), 2e-5) << compared << " hypothesis " << i;
    }
    ++compared;
  }
  EXPECT_GE(compared, 9);
}

INSTANTIATE_TEST_SUITE_P(Families, Beams, ::testing::Values("gpt2", "llama", "t5"));

TEST(Generate, EndsAtEndTokenAndLastPosition) {
  ONDOL_REQUIRE_DATA("hf_tiny/llama");
  const auto model = load_tiny("llama");
  const Json answer = load_answers("llama/greedy.json")["results"][0];
  const Ids prompt = answer["prompt_ids"].get<Ids>();
  const Ids expected = answer["tokens"].get<Ids>();
  GenerateOptions options;
  options.eos_token_ids = {expected[3]};
  const GenerateResult ended = generate_ids(*model, {prompt}, options)[0];
  EXPECT_EQ(ended.tokens, Ids(expected.begin(), expected.begin() + 4));
  EXPECT_EQ(ended.finish_reason, FinishReason::stop);

  options.ignore_eos = true;
  options.max_new_tokens = 1000;
  const GenerateResult full = generate_ids(*model, {prompt}, options)[0];
  EXPECT_EQ(static_cast<int64_t>(prompt.size() + full.tokens.size()), model->info().max_positions);
  EXPECT_EQ(full.finish_reason, FinishReason::length);
}

TEST(Generate, RefusesImpossibleRequests) {
  ONDOL_REQUIRE_DATA("hf_tiny/llama");
  const auto model = load_tiny("llama");
  const auto refused = [&](const Ids& prompt, const GenerateOptions& options) {
    EXPECT_THROW(generate_ids(*model, {prompt}, options), UsageError);
  };
  refused({}, {});
  refused({137}, {});
  refused({-1}, {});
  refused(Ids(64, 1), {});
  refused({1}, {.max_new_tokens = 0});
  refused({1}, {.sampling = {.temperature = -1.0f}});
  refused({1}, {.sampling = {.top_p = 0.0f}});
  refused({1}, {.stop = {"x"}});
  refused({1}, {.sampling = {.temperature = 1.0f}, .num_beams = 2});
  refused({1}, {.num_beams = 0});
}

TEST(Generate, SampledTokensDependOnSeedAndPromptAlone) {
  ONDOL_REQUIRE_DATA("hf_tiny/gpt2");
  const auto model = load_tiny("gpt2");
  GenerateOptions options{.max_new_tokens = 20, .sampling = {.temperature = 1.0f, .seed = 7}, .ignore_eos = true};
  const std::vector<Ids> prompts = {{5, 17, 2}, {9, 9, 9, 9, 9, 3, 1}, {100}};
  const std::vector<GenerateResult> together = generate_ids(*model, prompts, options);
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(generate_ids(*model, {prompts[i]}, options)[0].tokens, together[i].tokens) << i;
  }
  options.sampling.seed = 8;
  EXPECT_NE(generate_ids(*model, {prompts[0]}, options)[0].tokens, together[0].tokens);
}

// Keskar et al. 2019: every token of prompt and answer so far, of the own row alone, is penalised once.
TEST(Generate, RepetitionPenaltySeesTheWholeRow) {
  ONDOL_REQUIRE_DATA("hf_tiny/gpt2");
  const auto model = load_tiny("gpt2");
  const GenerateOptions options{.max_new_tokens = 12, .sampling = {.repetition_penalty = 1.8f}, .ignore_eos = true};
  const std::vector<Ids> prompts = {{5, 17, 2}, {9, 9, 9, 9, 9, 3, 1}, {100}};
  const std::vector<GenerateResult> results = generate_ids(*model, prompts, options);
  bool mattered = false;
  for (size_t row = 0; row < prompts.size(); ++row) {
    Ids ids = prompts[row];
    for (const int32_t token : results[row].tokens) {
      const int64_t length = static_cast<int64_t>(ids.size());
      const Tensor hidden = model->hidden({.input_ids = Tensor::from_vector(ids, {1, length})}, {}).value();
      std::vector<float> scores = model->logits(hidden.select(1, length - 1)).to_vector<float>();
      const auto plain = std::max_element(scores.begin(), scores.end()) - scores.begin();
      for (const int32_t id : std::set<int32_t>(ids.begin(), ids.end())) {
        float& score = scores[static_cast<size_t>(id)];
        score = score < 0 ? score * 1.8f : score / 1.8f;
      }
      const auto best = std::max_element(scores.begin(), scores.end()) - scores.begin();
      EXPECT_EQ(token, best) << "row " << row << ", " << length << " tokens before";
      mattered |= best != plain;
      ids.push_back(token);
    }
  }
  EXPECT_TRUE(mattered);
}

TEST(Generate, PublishedStory) {
  ONDOL_REQUIRE_DATA("models/stories260K");
  const auto model = load_model(test::data_path("models/stories260K"), {.device = "cpu", .dtype = DType::f32});
  const Json reference = load_json(test::data_path("vectors/stories260K/reference.json"));
  const Ids expected = reference["published_token_ids_float64"].get<Ids>();
  ASSERT_GT(expected.size(), 150u);
  GenerateOptions options{.max_new_tokens = static_cast<int64_t>(expected.size()) - 1, .ignore_eos = true};
  const Ids tokens = generate_ids(*model, {{expected[0]}}, options)[0].tokens;
  EXPECT_EQ(tokens, Ids(expected.begin() + 1, expected.end()));
}

// The rows of a batch are computed bit by bit as they are alone: serving depends on it.
TEST(Generate, LogitsDoNotDependOnTheBatch) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto model = create_model(ONDOL_SOURCE_DIR "/configs/models/llama-3m.json", dtype, {}, 1);
    std::vector<Ids> prompts;
    for (int32_t b = 0; b < 5; ++b) {
      for (int32_t t = 0; t < 3 + 7 * b; ++t) {
        if (t == 0) prompts.emplace_back();
        prompts.back().push_back((17 * b + 5 * t * t + 3) % 4096);
      }
    }
    KvCache together = model->make_cache(5, 64);
    std::vector<std::span<const int32_t>> rows(prompts.begin(), prompts.end());
    const Ids next = {7, 8, 9, 10, 11};
    std::vector<std::span<const int32_t>> next_rows;
    for (const int32_t& id : next) next_rows.emplace_back(&id, 1);
    Decoder decoder(*model, together);
    const Tensor prefill = decoder.step(rows), decode = decoder.step(next_rows);
    for (size_t b = 0; b < prompts.size(); ++b) {
      KvCache alone = model->make_cache(1, 64);
      Decoder single(*model, alone);
      const int64_t row = static_cast<int64_t>(b);
      EXPECT_EQ(single.step({rows[b]}).to_vector<float>(), prefill.select(0, row).to_vector<float>()) << b;
      EXPECT_EQ(single.step({next_rows[b]}).to_vector<float>(), decode.select(0, row).to_vector<float>()) << b;
    }
  }
}

}  // namespace
}  // namespace ondol
