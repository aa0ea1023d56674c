// Models from GGUF files: the real ones against published and independently computed answers, small ones by hand.
#include <cmath>

#include <ondol/generate/chat_template.h>
#include <ondol/generate/generate.h>
#include <ondol/generate/perplexity.h>
#include <ondol/io/gguf.h>
#include <ondol/models/model.h>
#include <ondol/tokenizer/tokenizer.h>

#include <gtest/gtest.h>

#include "base/json_reader.h"
#include "support/error_of.h"
#include "support/gguf_bytes.h"
#include "support/temporary_directory.h"
#include "support/test_data.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::GgufBytes;
using testing::TemporaryDirectory;

constexpr const char* kSmol = "models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf";

std::vector<float> logits_of(Model& model, const std::vector<int32_t>& ids) {
  ModelInput input;
  input.input_ids = Tensor::from_vector(ids, {1, static_cast<int64_t>(ids.size())});
  return model.logits(model.hidden(input, {}).value()).to_vector<float>();
}

TEST(GgufModel, Stories260KIsTheSafetensorsModel) {
  ONDOL_REQUIRE_DATA("models/stories260K");
  const std::string directory = test::data_path("models/stories260K");
  const std::vector<int32_t> ids = {1, 403, 407, 261, 378, 432, 383, 286, 261, 376};
  const auto expected = logits_of(*load_model(directory, {.device = "cpu", .dtype = {}}), ids);
  for (const auto& [file, tolerance] : {std::pair("f32", 0.0f), std::pair("f16", 2e-2f)}) {
    const auto model = load_model(concat(directory, "/stories260K-", file, ".gguf"), {.device = "cpu", .dtype = {}});
    const auto actual = logits_of(*model, ids);
    ASSERT_EQ(actual.size(), expected.size());
    float worst = 0;
    for (size_t i = 0; i < actual.size(); ++i) worst = std::max(worst, std::fabs(actual[i] - expected[i]));
    EXPECT_LE(worst, tolerance) << file;
  }
}

class SmolLm : public ::testing::Test {
 protected:
  void SetUp() override {
    ONDOL_REQUIRE_DATA(kSmol);
    reference = load_json(test::data_path("vectors/smollm2/reference.json"));
  }
  Json reference;
};

TEST_F(SmolLm, TokenizesAsTheReference) {
  const Tokenizer tokenizer = load_tokenizer(test::data_path(kSmol));
  EXPECT_EQ(tokenizer.special_token("eos"), "<|im_end|>");
  size_t texts = 0;
  for (const Json& text : reference["tokenization"]) {
    EXPECT_EQ(tokenizer.encode(text["text"].get<std::string>()), text["ids"].get<std::vector<int32_t>>())
        << text["text"];
    ++texts;
  }
  EXPECT_EQ(texts, 10u);
  const ChatTemplate chat = ChatTemplate::of(tokenizer);
  for (const Json& prompt : reference["prompts"]) {
    if (!prompt.contains("messages")) continue;
    const std::string rendered = chat.render_json(Json{{"messages", prompt["messages"]}}.dump());
    EXPECT_EQ(rendered, prompt["text"].get<std::string>());
    EXPECT_EQ(tokenizer.encode(rendered, {.add_special_tokens = false}), prompt["ids"].get<std::vector<int32_t>>());
  }
}

TEST_F(SmolLm, LikelihoodAndGreedyTextAreThoseOfTheReference) {
  const auto model = load_model(test::data_path(kSmol), {.device = "cpu", .dtype = {}});
  EXPECT_EQ(model->info().eos_token_ids, std::vector<int32_t>{2});
  EXPECT_NE(model->output_projection().weight.quantized(), nullptr);
  EXPECT_THROW(model->parameters().enable_gradients(), UsageError);
  const Json& likelihood = reference["log_likelihood"];
  double expected = 0;
  for (const double logprob : likelihood["logprobs"].get<std::vector<double>>()) expected -= logprob;
  const PerplexityResult result = perplexity(*model, likelihood["ids"].get<std::vector<int32_t>>());
  EXPECT_NEAR(result.log_likelihood_loss / expected, 1.0, 1e-3);
  RecordProperty("relative_error", std::to_string(result.log_likelihood_loss / expected - 1.0));

  GenerateOptions options;
  options.max_new_tokens = 40;
  options.ignore_eos = true;
  // The reference computes in float64: where its best two logits are this close, arithmetic of less precision may
  // choose the other one.
  constexpr double kTie = 0.1;
  for (const Json& prompt : reference["prompts"]) {
    const auto ids = prompt["ids"].get<std::vector<int32_t>>();
    const auto greedy = prompt["greedy"].get<std::vector<int32_t>>();
    const auto gaps = prompt["gaps"].get<std::vector<double>>();
    const std::vector<int32_t> tokens = generate_ids(*model, {ids}, options, nullptr).front().tokens;
    ASSERT_EQ(tokens.size(), greedy.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] == greedy[i]) continue;
      EXPECT_LT(gaps[i], kTie) << "token " << i << " after " << prompt["text"];
      break;
    }
  }
}

/// Keys and tensors of a model with one layer, hidden size 32 and two heads; `skip` leaves one key or tensor out.
GgufBytes tiny_llama(const std::string& skip = "") {
  GgufBytes file;
  const auto u32 = [&](const std::string& key, uint32_t v) {
    if (key != skip) file.u32(key, v);
  };
  file.string("general.architecture", "llama");
  u32("llama.block_count", 1);
  u32("llama.context_length", 16);
  u32("llama.embedding_length", 32);
  u32("llama.feed_forward_length", 32);
  u32("llama.attention.head_count", 2);
  u32("llama.attention.head_count_kv", 1);
  file.f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  const auto tensor = [&](const std::string& name, const std::vector<uint64_t>& sizes) {
    uint64_t count = 4;
    for (const uint64_t size : sizes) count *= size;
    if (name != skip) file.tensor(name, sizes, 0, std::string(count, '\0'));
  };
  tensor("token_embd.weight", {32, 8});
  tensor("output_norm.weight", {32});
  for (const char* norm : {"attn_norm", "ffn_norm"}) tensor(concat("blk.0.", norm, ".weight"), {32});
  for (const char* square : {"attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) {
    tensor(concat("blk.0.", square, ".weight"), {32, 32});
  }
  for (const char* narrow : {"attn_k", "attn_v"}) tensor(concat("blk.0.", narrow, ".weight"), {32, 16});
  return file;
}

TEST(GgufModel, ErrorsNameKeysAndTensorsOfTheFile) {
  const TemporaryDirectory directory;
  const auto why = [&](const GgufBytes& file) {
    const std::string path = directory.write("m.gguf", file.bytes());
    std::string message = error_of([&] { load_model(path, {.device = "cpu", .dtype = {}}); });
    const size_t end = message.rfind(" (" + path + ")");
    return end == std::string::npos ? message : message.substr(0, end);
  };
  EXPECT_EQ(why(tiny_llama()), "no error");
  EXPECT_EQ(why(GgufBytes().string("general.architecture", "mamba")),
            "general.architecture \"mamba\" is not supported");
  EXPECT_EQ(why(GgufBytes()), "cannot read GGUF: key \"general.architecture\": it is missing");
  EXPECT_EQ(why(tiny_llama("llama.block_count")), "cannot read GGUF: key \"llama.block_count\": it is missing");
  EXPECT_EQ(why(tiny_llama("blk.0.attn_q.weight")), "tensor \"model.layers.0.self_attn.q_proj.weight\" is missing");
  EXPECT_EQ(why(tiny_llama("llama.attention.head_count").u32("llama.attention.head_count", 3)),
            "key \"llama.attention.head_count\": 3 heads do not divide the hidden size 32");
  EXPECT_EQ(why(tiny_llama("llama.attention.head_count").u32("llama.attention.head_count", 0)),
            "cannot read GGUF: key \"llama.attention.head_count\": 0 is out of range");
  EXPECT_EQ(why(tiny_llama().u32("llama.rope.dimension_count", 8)),
            "cannot read GGUF: key \"llama.rope.dimension_count\": 8 of the 16 elements of a head: rotating a part of "
            "them is not supported");
  EXPECT_EQ(why(tiny_llama().string("llama.rope.scaling.type", "yarn")),
            "cannot read GGUF: key \"llama.rope.scaling.type\": \"yarn\" is not supported: none and linear are");
  EXPECT_EQ(why(tiny_llama("output_norm.weight").tensor("output_norm.weight", {16}, 0, std::string(64, '\0'))),
            "tensor \"output_norm.weight\" has shape (16), the configuration asks for (32)");
  EXPECT_EQ(why(tiny_llama().tensor("blk.0.extra.weight", {1}, 0, std::string(4, '\0'))),
            "unexpected tensor \"blk.0.extra.weight\": the architecture llama has no such weight");
}

TEST(GgufModel, RopeFactorsAreThoseOfLlama3) {
  const TemporaryDirectory directory;
  // Llama 3.1: factor 8, limits 1 and 4, context 8192, theta 500000, here for heads of 16.
  std::vector<float> factors;
  for (int i = 0; i < 8; ++i) {
    const double turns = 8192.0 * std::pow(500000.0, -i / 8.0) / (2.0 * M_PI);
    const double blend = (turns - 1.0) / 3.0;
    factors.push_back(static_cast<float>(turns < 1.0 ? 8.0 : turns > 4.0 ? 1.0 : 1.0 / ((1.0 - blend) / 8.0 + blend)));
  }
  const std::string bytes(reinterpret_cast<const char*>(factors.data()), 32);
  const std::string path = directory.write(
      "m.gguf", tiny_llama().f32("llama.rope.freq_base", 500000.0f).tensor("rope_freqs.weight", {8}, 0, bytes).bytes());
  const auto model = load_model(path, {.device = "cpu", .dtype = {}});
  const Json scaling = Json::parse(model->config_json())["rope_scaling"];
  EXPECT_EQ(scaling["rope_type"], "llama3");
  EXPECT_EQ(scaling["factor"], 8.0);
  EXPECT_EQ(scaling["high_freq_factor"], 4.0);
  EXPECT_EQ(scaling["original_max_position_embeddings"], 8192);
  const std::string odd(reinterpret_cast<const char*>(std::vector<float>{1, 5, 2, 9, 3, 1, 4, 8}.data()), 32);
  const std::string wrong = directory.write("w.gguf", tiny_llama().tensor("rope_freqs.weight", {8}, 0, odd).bytes());
  EXPECT_NE(error_of([&] { load_model(wrong, {}); }).find("\"rope_freqs.weight\": its factors are not those"),
            std::string::npos);
}

}  // namespace
}  // namespace ondol
