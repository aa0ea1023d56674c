// Small trained models with published numbers: minGPT's sorting model (gpt-nano-sort) and llama2.c's stories260K.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include <ondol/io/safetensors.h>
#include <ondol/models/model.h>
#include <ondol/ops/attention.h>
#include <ondol/ops/matmul.h>
#include <ondol/ops/norm.h>
#include <ondol/ops/reduce.h>

#include <gtest/gtest.h>

#include "base/json_reader.h"
#include "support/temporary_directory.h"
#include "support/test_data.h"

namespace ondol {
namespace {

double difference(const Tensor& actual, const Tensor& expected) {
  const std::vector<float> a = actual.to_vector<float>(), b = expected.to_vector<float>();
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    worst = std::max(worst, static_cast<double>(std::fabs(a[i] - b[i])));
  }
  return worst;
}

std::vector<float> decode_base64_floats(const std::string& text) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<uint32_t>(digits.find(c));
    count += 6;
    if (count >= 8) bytes.push_back(static_cast<char>(bits >> (count -= 8)));
  }
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

/// The sorting model as a Hugging Face directory: its matrices are (out, in), GPT-2 files hold (in, out). The biases of
/// c_attn stand in the published JSON file alone.
void write_sorting_model(const std::string& directory) {
  const SafetensorsFile source(test::data_path("models/gpt-nano-sort/model.safetensors"));
  NamedTensors tensors;
  for (const SafetensorsEntry& entry : source.entries()) {
    Tensor tensor = source.tensor(entry);
    const bool matrix = entry.name.find(".c_") != std::string::npos && tensor.ndim() == 2;
    tensors.emplace_back(entry.name, matrix ? tensor.transpose(0, 1) : tensor);
  }
  const Json published = load_json(test::data_path("models/gpt-nano-sort/gpt-nano-sort-model.json"));
  for (int layer = 0; layer < 3; ++layer) {
    const std::string name = concat("transformer.h.", layer, ".attn.c_attn.bias");
    tensors.emplace_back(name,
                         Tensor::from_vector(decode_base64_floats(published[name]["data"].get<std::string>()), {144}));
  }
  write_safetensors(directory + "/model.safetensors", tensors);
  std::ofstream(directory + "/config.json")
      << R"({"model_type": "gpt2", "vocab_size": 3, "n_positions": 11, "n_embd": 48, "n_layer": 3, "n_head": 3,
             "activation_function": "gelu_new", "tie_word_embeddings": false})";
}

TEST(PublishedModels, SortingModelSortsWithThePublishedValues) {
  ONDOL_REQUIRE_DATA("models/gpt-nano-sort");
  const testing::TemporaryDirectory directory;
  write_sorting_model(directory.path());
  const auto model = load_model(directory.path(), {.device = "cpu", .dtype = DType::f32});
  const SafetensorsFile published(test::data_path("vectors/gpt-nano-sort/partials.safetensors"));
  const Tensor ids = published.tensor("idx").to(DType::i32);

  std::vector<std::pair<std::string, Tensor>> states;
  ForwardContext context;
  context.hidden_states = &states;
  const Tensor hidden = model->hidden({.input_ids = ids}, context).value();
  const Tensor logits = model->logits(hidden);
  EXPECT_LT(difference(states[0].second, published.tensor("x")), 5e-6);
  EXPECT_LT(difference(states[1].second, published.tensor("block0")), 5e-6);
  EXPECT_LT(difference(states[2].second, published.tensor("block1")), 5e-6);
  EXPECT_LT(difference(hidden, published.tensor("ln_f")), 5e-6);
  EXPECT_LT(difference(logits, published.tensor("lm_head")), 1e-5);
  EXPECT_LT(difference(ops::softmax(logits), published.tensor("probs")), 5e-6);

  // The first block, step by step, each step from the published value before it.
  const auto weight = [&](const std::string& name) {
    for (const WeightSlot& slot : model->weights()) {
      if (slot.name == "transformer.h.0." + name) return slot.parameter.value();
    }
    throw Error("no weight " + name);
  };
  const auto linear = [&](const Tensor& x, const std::string& name) {
    return ops::linear(
        x, {.weight = weight(name + ".weight"), .bias = weight(name + ".bias"), .activation = {}, .residual = {}});
  };
  const auto norm = [&](const Tensor& x, const std::string& name) {
    return ops::layer_norm(x, weight(name + ".weight"), weight(name + ".bias"), {}).out;
  };
  EXPECT_LT(difference(norm(published.tensor("x"), "ln_1"), published.tensor("ln1")), 5e-6);
  const Tensor qkv = linear(published.tensor("ln1"), "attn.c_attn");
  EXPECT_LT(difference(qkv, published.tensor("qkv")), 5e-6);
  const Tensor heads = qkv.reshape({3, 11, 9, 16});
  const Tensor q = heads.narrow(2, 0, 3), k = heads.narrow(2, 3, 3), v = heads.narrow(2, 6, 3);
  EXPECT_LT(difference(q.transpose(1, 2), published.tensor("q")), 5e-6);
  EXPECT_LT(difference(k.transpose(1, 2), published.tensor("k")), 5e-6);
  EXPECT_LT(difference(v.transpose(1, 2), published.tensor("v")), 5e-6);
  EXPECT_LT(difference(ops::attention(q, k, v, {.causal = true}).out, published.tensor("y")), 5e-6);
  EXPECT_LT(difference(linear(published.tensor("y"), "attn.c_proj"), published.tensor("yProj")), 5e-6);
  EXPECT_LT(difference(norm(published.tensor("attnResid"), "ln_2"), published.tensor("ln2")), 5e-6);
  EXPECT_LT(difference(linear(published.tensor("ln2"), "mlp.c_fc"), published.tensor("fc")), 5e-6);
  EXPECT_LT(difference(ops::activation(published.tensor("fc"), Activation::gelu_tanh), published.tensor("gelu")), 5e-6);
  EXPECT_LT(difference(linear(published.tensor("gelu"), "mlp.c_proj"), published.tensor("mlp")), 5e-6);

  // Every one of the 729 inputs: six letters, then the same six in order.
  int sorted_inputs = 0;
  for (int code = 0; code < 729; ++code) {
    std::vector<int32_t> tokens;
    for (int digit = 0, rest = code; digit < 6; ++digit, rest /= 3) tokens.push_back(rest % 3);
    std::vector<int32_t> expected = tokens;
    std::sort(expected.begin(), expected.end());
    for (int step = 0; step < 6; ++step) {
      const int64_t length = static_cast<int64_t>(tokens.size());
      const Tensor h = model->hidden({.input_ids = Tensor::from_vector(tokens, {1, length})}, {}).value();
      tokens.push_back(
          static_cast<int32_t>(ops::argmax(model->logits(h.narrow(1, length - 1, 1).contiguous())).item()));
    }
    sorted_inputs += std::equal(expected.begin(), expected.end(), tokens.begin() + 6);
  }
  EXPECT_GE(sorted_inputs, 725);  // the trained model itself errs on a few
}

TEST(PublishedModels, Stories260KGivesTheReferenceLogits) {
  ONDOL_REQUIRE_DATA("models/stories260K");
  const auto model = load_model(test::data_path("models/stories260K"), {.device = "cpu", .dtype = DType::f32});
  const SafetensorsFile reference(test::data_path("vectors/stories260K/logits.safetensors"));
  for (int number = 0; number < 4; ++number) {
    const std::string name = concat("case", number);
    const Tensor ids = reference.tensor(name + ".token_ids").to(DType::i32);
    std::vector<std::pair<std::string, Tensor>> states;
    ForwardContext context;
    context.hidden_states = &states;
    const Tensor hidden = model->hidden({.input_ids = ids.reshape({1, ids.numel()})}, context).value();
    EXPECT_LT(difference(model->logits(hidden), reference.tensor(name + ".logits")), 1e-4) << name;
    for (int layer = 0; number == 0 && layer < 5; ++layer) {
      const Tensor expected = reference.tensor(concat("case0.residual_after_", layer, "_layers"));
      EXPECT_LT(difference(states[static_cast<size_t>(layer)].second, expected), 1e-4) << layer;
    }
  }
}

}  // namespace
}  // namespace ondol
