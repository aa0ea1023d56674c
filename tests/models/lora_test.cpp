// LoRA adapters: logits as peft computes them, files that come back, merging, and what is refused.
#include <cmath>

#include <gtest/gtest.h>

#include <ondol/models/convert.h>
#include <ondol/models/lora.h>

#include "support/error_of.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

const char* const kLlama =
    R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 11, "hidden_size": 8,
        "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 16, "tie_word_embeddings": false, "rms_norm_eps": 1e-5})";
const char* const kGpt2 =
    R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 11, "n_embd": 8, "n_layer": 2,
        "n_head": 2, "n_positions": 16})";

/// Values that follow from the name: sin(0.7 i + length of the name) / 2; vectors lie around 1.
void fill(const WeightSlot& slot, int extra) {
  std::vector<float> values;
  const auto seed = static_cast<double>(slot.name.size()) + extra;
  for (int64_t i = 0; i < slot.shape.numel(); ++i) {
    const auto value = static_cast<float>(0.5 * std::sin(static_cast<double>(i) * 0.7 + seed));
    values.push_back(slot.shape.ndim() > 1 ? value : 1.0f + 0.1f * value);
  }
  slot.view(slot.parameter.value()).copy_from(Tensor::from_vector(values, slot.shape));
}

struct Known {
  const char* config;
  LoraConfig lora;
  std::vector<float> logits;  // of the last of 3, 1, 4, 1, 5, 9, the first 8: peft 0.21 with transformers 5.23
};

class LoraFiles : public ::testing::TestWithParam<Known> {
 protected:
  static std::vector<float> logits(Model& model) {
    const ModelInput input = model.prepare({.input_ids = Tensor::from_vector<int32_t>({3, 1, 4, 1, 5, 9}, {1, 6})});
    return model.forward(input, {})[0].second.value().select(1, 5).to_vector<float>();
  }
  std::unique_ptr<Model> adapted(const std::string& base) const {
    auto model = load_model(base, {.device = "cpu", .extend = [&](Model& m) { add_lora(m, GetParam().lora, base); }});
    for (const WeightSlot& slot : model->lora()->tensors) fill(slot, slot.name.find("lora_B") != std::string::npos);
    return model;
  }
  std::string base() const {
    const auto model = create_model(directory_.write("config.json", GetParam().config), DType::f32, {}, 1);
    for (const WeightSlot& slot : model->weights()) fill(slot, 0);
    save_model(*model, directory_ / "base");
    return directory_ / "base";
  }
  testing::TemporaryDirectory directory_;
};

INSTANTIATE_TEST_SUITE_P(
    Models, LoraFiles,
    ::testing::Values(
        Known{kLlama,
              {.rank = 2, .alpha = 6, .targets = {"q_proj", "v_proj", "down_proj"}},
              {-0.071414f, -0.245364f, -0.309177f, -0.23421f, -0.054114f, 0.150272f, 0.287206f, 0.295222f}},
        Known{kGpt2,
              {.rank = 2, .alpha = 6, .rank_stabilized = true, .targets = {"c_attn", "c_proj"}},
              {-2.503019f, -2.120703f, -0.786471f, 0.900783f, 2.183704f, 2.48643f, 1.673076f, 0.108732f}}));

TEST_P(LoraFiles, LogitsAreThoseOfPeft) {
  const auto model = adapted(base());
  const std::vector<float> found = logits(*model);
  for (size_t i = 0; i < GetParam().logits.size(); ++i) EXPECT_NEAR(found[i], GetParam().logits[i], 1e-4) << i;
}

TEST_P(LoraFiles, AnAdapterDirectoryComesBack) {
  const auto model = adapted(base());
  save_model(*model, directory_ / "adapter");
  EXPECT_TRUE(is_adapter(directory_ / "adapter"));
  EXPECT_FALSE(is_adapter(directory_ / "base"));
  const auto again = load_model(directory_ / "adapter", {.device = "cpu"});
  EXPECT_EQ(logits(*again), logits(*model));
  EXPECT_EQ(again->lora()->modules, model->lora()->modules);
  save_model(*again, directory_ / "again");
  EXPECT_EQ(directory_.read("again/adapter_model.safetensors"), directory_.read("adapter/adapter_model.safetensors"));
  EXPECT_EQ(testing::error_of([&] { load_model(directory_ / "nothing", {}); }).find("cannot load model"), 0u);
}

TEST_P(LoraFiles, MergedWeightsDoTheSame) {
  const auto model = adapted(base());
  save_model(*model, directory_ / "adapter");
  convert_model(directory_ / "base", directory_ / "merged", {.adapter = directory_ / "adapter"});
  const auto merged = load_model(directory_ / "merged", {.device = "cpu"});
  EXPECT_EQ(merged->lora(), nullptr);
  const std::vector<float> found = logits(*merged), wanted = logits(*model);
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(found[i], wanted[i], 2e-5) << i;
}

TEST(Average, IsTheMeanOfTheWeights) {
  const testing::TemporaryDirectory directory;
  const std::string config = directory.write("config.json", kGpt2);
  std::vector<std::unique_ptr<Model>> models;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    models.push_back(create_model(config, DType::f32, {}, seed));
    save_model(*models.back(), directory / concat("m", seed));
  }
  convert_model(directory / "m1", directory / "mean", {.average = {directory / "m2", directory / "m3"}});
  const auto mean = load_model(directory / "mean", {.device = "cpu"});
  for (size_t i = 0; i < mean->weights().size(); ++i) {
    const auto values = [i](const Model& m) { return m.weights()[i].parameter.value().to_vector<double>(); };
    const auto found = values(*mean), a = values(*models[0]), b = values(*models[1]), c = values(*models[2]);
    for (size_t j = 0; j < found.size(); ++j) {
      EXPECT_EQ(found[j], static_cast<double>(static_cast<float>((a[j] + b[j] + c[j]) / 3))) << i;
    }
  }
  save_model(*create_model(directory.write("other.json", kLlama), DType::f32, {}, 1), directory / "other");
  EXPECT_NE(testing::error_of([&] {
              convert_model(directory / "m1", directory / "x", {.average = {directory / "other"}});
            }).find("different configurations"),
            std::string::npos);
}

TEST(Lora, StartsAsTheBaseAndTrainsOnlyTheAdapter) {
  const testing::TemporaryDirectory directory;
  const auto model = create_model(directory.write("config.json", kLlama), DType::f32, {}, 1, [](Model& m) {
    add_lora(m, {.rank = 3, .targets = {"all-linear"}, .modules_to_save = {"lm_head"}}, "base");
  });
  // 2 layers: q, k, v, o, gate, up, down with A (3, in) and B (out, 3), and the output projection.
  const int64_t per_layer = 3 * (8 + 8) + 2 * 3 * (8 + 4) + 3 * (8 + 8) + 2 * 3 * (8 + 12) + 3 * (12 + 8);
  EXPECT_EQ(model->parameters().trainable_count(), 2 * per_layer + 11 * 8);
  EXPECT_EQ(model->lora()->modules.size(), 14u);
  EXPECT_EQ(model->lora()->saved, std::vector<std::string>{"lm_head"});
  for (const WeightSlot& slot : model->lora()->tensors) {
    if (slot.name.ends_with("lora_B.weight")) {
      for (const float value : slot.view(slot.parameter.value()).to_vector<float>()) EXPECT_EQ(value, 0.0f);
    }
    if (slot.name.ends_with("lora_A.weight")) {
      for (const float value : slot.view(slot.parameter.value()).to_vector<float>()) {
        EXPECT_LE(std::fabs(value), 1.0f / std::sqrt(static_cast<float>(slot.shape[1])));
      }
    }
  }
}

TEST(Lora, WhatMatchesNothingIsNamed) {
  const testing::TemporaryDirectory directory;
  const std::string path = directory.write("config.json", kLlama);
  const auto error = [&](const LoraConfig& config) {
    return testing::error_of(
        [&] { create_model(path, DType::f32, {}, 1, [&](Model& m) { add_lora(m, config, "base"); }); });
  };
  EXPECT_EQ(error({.targets = {"q_proj", "query"}}), "lora target \"query\" matches no linear layer of the model");
  EXPECT_EQ(error({.targets = {"embed_tokens"}}), "lora target \"embed_tokens\" matches no linear layer of the model");
  EXPECT_EQ(error({.targets = {}}), "lora.targets names no layer");
  EXPECT_EQ(error({.targets = {"q_proj"}, .modules_to_save = {"score"}}),
            "lora.modules_to_save \"score\" matches no part of the model");
  EXPECT_EQ(error({.targets = {"layers.1.*.q_proj"}}), "no error");
  try {
    create_model(path, DType::f32, {}, 1, [&](Model& m) { add_lora(m, {.targets = {"qproj"}}, "base"); });
    FAIL();
  } catch (const UsageError& usage) {
    EXPECT_EQ(usage.hint(),
              "linear layers: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj; or all-linear");
  }
}

TEST(Lora, FilesThatAreNotSupportedAreNamed) {
  const testing::TemporaryDirectory directory;
  const auto model = create_model(directory.write("config.json", kLlama), DType::f32, {}, 1,
                                  [](Model& m) { add_lora(m, {.targets = {"q_proj"}}, "nowhere"); });
  save_model(*model, directory / "a");
  const auto error = [&] { return testing::error_of([&] { load_model(directory / "a", {}); }); };
  EXPECT_NE(error().find("its base model \"nowhere\" is not here"), std::string::npos);
  const std::string config = directory.read("a/adapter_config.json");
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = config;
    text.replace(text.find(from), from.size(), to);
    directory.write("a/adapter_config.json", text);
    return error();
  };
  EXPECT_NE(changed("\"LORA\"", "\"IA3\"").find("\"peft_type\""), std::string::npos);
  EXPECT_NE(changed("\"bias\": \"none\"", "\"bias\": \"all\"").find("\"bias\""), std::string::npos);
  EXPECT_NE(changed("\"bias\"", "\"use_dora\": true, \"bias\"").find("use_dora"), std::string::npos);
  EXPECT_NE(changed("\"r\": 8", "\"r\": 4").find("the rank is 4"), std::string::npos);
  std::filesystem::remove(directory / "a/adapter_model.safetensors");
  EXPECT_NE(error().find("no adapter_model.safetensors"), std::string::npos);
}

}  // namespace
}  // namespace ondol
