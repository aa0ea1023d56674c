// Models that read prompts in both directions: generation with a cache against a forward over everything at each step.
#include <ondol/generate/beam_search.h>
#include <ondol/generate/generate.h>
#include <ondol/generate/perplexity.h>

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "support/temporary_directory.h"
#include "support/test_data.h"

namespace ondol {
namespace {

using Ids = std::vector<int32_t>;

/// Weights far from the usual first values, so that what a token sees matters.
const char* const kModels[] = {
    R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 97, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 400, "initializer_range": 0.4, "bidirectional_prefix": true})",
    R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 97, "n_positions": 400, "n_embd": 32,
        "n_layer": 2, "n_head": 2, "initializer_range": 0.4, "bidirectional_prefix": true})"};

std::unique_ptr<Model> model_of(const std::string& config) {
  const testing::TemporaryDirectory directory;
  return create_model(directory.write("config.json", config), DType::f32, {}, 11);
}

/// Logits (T, V) of a forward without a cache, the first `prefix` tokens read in both directions.
std::vector<float> logits_of(Model& model, const Ids& ids, int32_t prefix) {
  const Shape shape{1, static_cast<int64_t>(ids.size())};
  Ids ends(ids.size(), 0);
  std::fill_n(ends.begin(), prefix, prefix);
  ModelInput input;
  input.input_ids = Tensor::from_vector(ids, shape);
  input.prefix_ends = Tensor::from_vector(ends, shape);
  const NoGrad no_grad;
  return model.forward(input, {}).front().second.value().to_vector<float>();
}

/// The most likely tokens, each from a forward over all that is there.
Ids greedy_without_cache(Model& model, const Ids& prompt, bool bidirectional, int count) {
  Ids ids = prompt;
  for (int i = 0; i < count; ++i) {
    const std::vector<float> logits = logits_of(model, ids, bidirectional ? static_cast<int32_t>(prompt.size()) : 0);
    const auto row = logits.end() - model.info().vocab_size;
    ids.push_back(static_cast<int32_t>(std::max_element(row, logits.end()) - row));
  }
  return {ids.begin() + static_cast<ptrdiff_t>(prompt.size()), ids.end()};
}

Ids counted(size_t length, int32_t step) {
  Ids ids;
  for (size_t i = 0; i < length; ++i) ids.push_back(static_cast<int32_t>((i * i * 5 + i * step + 3) % 97));
  return ids;
}

TEST(PrefixGeneration, GreedyIsThatOfAForwardOverEverythingAtEachStep) {
  // One of them is longer than the tiles of the kernels and the step of the cache's reach.
  const std::vector<Ids> prompts = {counted(1, 3), counted(7, 4), counted(2, 9), counted(270, 6)};
  GenerateOptions options;
  options.max_new_tokens = 8;
  options.ignore_eos = true;
  for (const char* config : kModels) {
    const auto model = model_of(config);
    const std::vector<GenerateResult> together = generate_ids(*model, prompts, options);
    int differs = 0;
    for (size_t i = 0; i < prompts.size(); ++i) {
      const Ids expected = greedy_without_cache(*model, prompts[i], true, 8);
      EXPECT_EQ(together[i].tokens, expected) << model->info().model_type << " prompt " << i;
      EXPECT_EQ(generate_ids(*model, {prompts[i]}, options)[0].tokens, expected) << i;
      differs += expected != greedy_without_cache(*model, prompts[i], false, 8);
    }
    EXPECT_GE(differs, 2) << "the direction makes no difference: nothing is tested";
    options.num_beams = 2;
    EXPECT_EQ(generate_ids(*model, {prompts[1]}, options)[0].tokens.size(), 8u);
    options.num_beams = 1;
    model->set_bidirectional_prefix(false);
    EXPECT_EQ(generate_ids(*model, {prompts[1]}, options)[0].tokens,
              greedy_without_cache(*model, prompts[1], false, 8));
  }
}

/// Tokens that transformers chose with a 4-D mask: prompt x prompt seen, the rest causal.
TEST(PrefixGeneration, GreedyIsThatOfTransformers) {
  ONDOL_REQUIRE_DATA("hf_tiny/gpt2");
  const std::vector<Ids> prompts = {{5, 17, 2, 40, 9, 33, 1}, {60, 3, 3, 8}};
  const std::pair<const char*, std::vector<Ids>> references[] = {
      {"llama",
       {{89, 39, 7, 129, 111, 84, 111, 37, 36, 39, 7, 28}, {31, 100, 111, 83, 134, 104, 129, 49, 100, 106, 92, 92}}},
      {"llama-gqa",
       {{115, 27, 104, 104, 68, 54, 54, 100, 128, 130, 100, 64}, {2, 32, 2, 32, 32, 32, 32, 32, 32, 32, 32, 32}}},
      {"gpt2",
       {{111, 55, 109, 35, 109, 53, 65, 65, 65, 35, 14, 14}, {35, 86, 86, 65, 35, 124, 109, 65, 35, 5, 15, 65}}}};
  GenerateOptions options;
  options.max_new_tokens = 12;
  options.ignore_eos = true;
  for (const auto& [name, tokens] : references) {
    const auto model =
        load_model(test::data_path(std::string("hf_tiny/") + name), {.device = "cpu", .dtype = DType::f32});
    model->set_bidirectional_prefix(true);
    const std::vector<GenerateResult> results = generate_ids(*model, prompts, options);
    for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(results[i].tokens, tokens[i]) << name << " prompt " << i;
  }
}

/// The tokens of a window that another one predicts are its prompt.
TEST(PrefixGeneration, PerplexityReadsTheContextOfAWindowInBothDirections) {
  const auto model = model_of(kModels[0]);
  const Ids ids = counted(23, 7);
  const auto window_loss = [&](size_t begin, size_t first_target) {
    const Ids read(ids.begin() + static_cast<ptrdiff_t>(begin), ids.begin() + static_cast<ptrdiff_t>(begin + 8));
    const std::vector<float> logits = logits_of(*model, read, static_cast<int32_t>(first_target - begin));
    double loss = 0.0;
    for (size_t target = first_target; target <= begin + 8; ++target) {
      const float* row = &logits[(target - begin - 1) * 97];
      double sum = 0.0;
      for (int v = 0; v < 97; ++v) sum += std::exp(static_cast<double>(row[v]));
      loss += std::log(sum) - row[ids[target]];
    }
    return loss;
  };
  double expected = 0.0;
  size_t next = 1;
  for (const size_t begin : {0, 3, 6, 9, 12, 14}) {
    expected += window_loss(begin, next);
    next = begin + 9;
  }
  EXPECT_NEAR(perplexity(*model, ids, {.window = 8, .stride = 3}).log_likelihood_loss, expected, 1e-3);
}

}  // namespace
}  // namespace ondol
