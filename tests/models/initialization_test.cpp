// Initial weights against the published rules. GPT-2 (Radford et al. 2019, and modeling_gpt2's _init_weights): normal,
// 0.02, projections that end a residual branch 0.02 / sqrt(2 L), biases 0, norms 1. LLaMA (modeling_llama): normal,
// initializer_range, norms 1.
#include <cmath>
#include <map>
#include <string>

#include <ondol/models/model.h>

#include <gtest/gtest.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

std::unique_ptr<Model> model_of(const std::string& config, uint64_t seed = 11) {
  const testing::TemporaryDirectory directory;
  return create_model(directory.write("config.json", config), DType::f32, Device{}, seed);
}

constexpr const char* kGpt2 =
    R"({"model_type":"gpt2","vocab_size":300,"n_positions":64,"n_embd":64,"n_layer":8,"n_head":4})";
constexpr const char* kLlama =
    R"({"model_type":"llama","vocab_size":300,"hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,)"
    R"("num_attention_heads":4,"num_key_value_heads":2,"initializer_range":0.05,"max_position_embeddings":64,)"
    R"("attention_bias":true})";

/// Every value of a weight that is not drawn, or the drawn ones' deviation within five standard errors.
void expect_constant(const WeightSlot& slot, float value) {
  for (const float v : slot.view(slot.parameter.value()).to_vector<float>()) ASSERT_EQ(v, value) << slot.name;
}

void expect_normal(const WeightSlot& slot, double deviation) {
  const std::vector<float> values = slot.view(slot.parameter.value()).to_vector<float>();
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const float v : values) {
    sum += v;
    squares += static_cast<double>(v) * v;
  }
  EXPECT_NEAR(sum / n, 0.0, 5 * deviation / std::sqrt(n)) << slot.name;
  EXPECT_NEAR(std::sqrt(squares / n), deviation, 5 * deviation / std::sqrt(2 * n)) << slot.name;
}

TEST(Initialization, Gpt2FollowsItsPaper) {
  const auto model = model_of(kGpt2);
  int residual = 0;
  for (const WeightSlot& slot : model->weights()) {
    const bool norm = slot.name.find("ln_") != std::string::npos;
    if (slot.name.ends_with(".bias")) {
      expect_constant(slot, 0.0f);
    } else if (norm) {
      expect_constant(slot, 1.0f);
    } else if (slot.name.ends_with("c_proj.weight")) {
      expect_normal(slot, 0.02 / std::sqrt(2.0 * 8));
      ++residual;
    } else {
      expect_normal(slot, 0.02);
    }
  }
  EXPECT_EQ(residual, 16);
  EXPECT_EQ(model->weights().size(), 2u + 8 * 12 + 2);
}

TEST(Initialization, LlamaFollowsItsConfig) {
  const auto model = model_of(kLlama);
  for (const WeightSlot& slot : model->weights()) {
    if (slot.name.ends_with("norm.weight")) {
      expect_constant(slot, 1.0f);
    } else if (slot.name.ends_with(".bias")) {
      expect_constant(slot, 0.0f);
    } else {
      expect_normal(slot, 0.05);
    }
  }
  EXPECT_EQ(model->weights().size(), 1u + 2 * (9 + 4) + 2);
}

TEST(Initialization, IsTheSameForASeedAndDiffersBetweenSeedsAndLayers) {
  const auto a = model_of(kLlama), b = model_of(kLlama), c = model_of(kLlama, 12);
  EXPECT_EQ(a->parameters().flat_values().to_vector<float>(), b->parameters().flat_values().to_vector<float>());
  EXPECT_NE(a->parameters().flat_values().to_vector<float>(), c->parameters().flat_values().to_vector<float>());
  std::vector<std::vector<float>> downs;
  for (const WeightSlot& slot : a->weights()) {
    if (slot.name.ends_with("down_proj.weight")) downs.push_back(slot.parameter.value().to_vector<float>());
  }
  ASSERT_EQ(downs.size(), 2u);
  EXPECT_NE(downs[0], downs[1]);
}

TEST(Initialization, WeightNamesAreThoseOfTransformers) {
  const auto model = model_of(kLlama);
  std::vector<std::string> names;
  for (const WeightSlot& slot : model->weights()) names.push_back(slot.name);
  for (const char* name :
       {"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.bias",
        "model.layers.1.self_attn.v_proj.weight", "model.layers.1.self_attn.o_proj.bias",
        "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight",
        "model.layers.1.mlp.down_proj.weight", "model.layers.0.input_layernorm.weight",
        "model.layers.0.post_attention_layernorm.weight", "model.norm.weight", "lm_head.weight"}) {
    EXPECT_EQ(std::count(names.begin(), names.end(), name), 1) << name;
  }
}

// T5 (modeling_t5's _init_weights): what a product adds up has size 1, queries bring the missing 1 / sqrt(d_kv).
TEST(Initialization, T5) {
  const auto model =
      model_of(R"({"model_type":"t5","vocab_size":300,"d_model":64,"d_kv":16,"d_ff":128,"num_layers":2,"num_heads":3,)"
               R"("feed_forward_proj":"gated-gelu","tie_word_embeddings":false,"initializer_factor":0.5})");
  const std::map<std::string, double> ends = {
      {".q.weight", 0.5 / std::sqrt(64.0 * 16)},  {".k.weight", 0.5 / 8},    {".v.weight", 0.5 / 8},
      {".o.weight", 0.5 / std::sqrt(48.0)},       {".wi_0.weight", 0.5 / 8}, {".wi_1.weight", 0.5 / 8},
      {".wo.weight", 0.5 / std::sqrt(128.0)},     {"shared.weight", 0.5},    {"lm_head.weight", 0.5},
      {"relative_attention_bias.weight", 0.5 / 8}};
  size_t drawn = 0;
  for (const WeightSlot& slot : model->weights()) {
    if (slot.name.ends_with("layer_norm.weight")) {
      expect_constant(slot, 0.5f);
      continue;
    }
    for (const auto& [end, deviation] : ends) {
      if (!slot.name.ends_with(end)) continue;
      expect_normal(slot, deviation);
      ++drawn;
    }
  }
  EXPECT_EQ(drawn, 2u + 2 + 2 * (4 + 3) + 2 * (8 + 3));
}

}  // namespace
}  // namespace ondol
