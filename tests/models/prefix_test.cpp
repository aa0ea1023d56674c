// Decoders whose prefix is attended to in both directions, against transformers with a mask of query-key pairs.
#include <cmath>
#include <string>
#include <vector>

#include <ondol/base/error.h>
#include <ondol/models/convert.h>
#include <ondol/models/model.h>

#include <gtest/gtest.h>

#include "base/json_reader.h"
#include "models/prefix.h"
#include "support/temporary_directory.h"
#include "support/test_data.h"
#include "support/test_device.h"

namespace ondol {
namespace {

using Ids = std::vector<int32_t>;

constexpr int64_t kRows = 2, kLength = 24;

Tensor rows_of(const Ids& values) {
  return Tensor::from_vector(values, {kRows, static_cast<int64_t>(values.size()) / kRows});
}

/// `count` times `value`, one after the other.
Ids runs(const std::vector<std::pair<int32_t, int>>& parts) {
  Ids out;
  for (const auto& [value, count] : parts) out.insert(out.end(), static_cast<size_t>(count), value);
  return out;
}

/// A row with a prefix of 9 tokens, and one of two documents with prefixes of 4 and of 6.
struct Sample {
  Ids ids, labels, documents = runs({{0, 24}, {0, 10}, {1, 14}}),
                   ends = runs({{9, 9}, {0, 15}, {4, 4}, {0, 6}, {16, 6}, {0, 8}});

  explicit Sample(int64_t vocab_size) {
    for (int64_t b = 0; b < kRows; ++b) {
      for (int64_t t = 0; t < kLength; ++t) {
        ids.push_back(static_cast<int32_t>((b * 53 + t * t * 7 + t * 31 + 11) % vocab_size));
        const size_t i = ids.size() - 1;
        labels.push_back(ends[i] > 0 ? kIgnoreIndex : ids[i]);  // unshifted: the token that stands there
      }
    }
  }
  ModelInput input() const {
    ModelInput input;
    input.input_ids = rows_of(ids);
    input.labels = rows_of(labels);
    input.documents = rows_of(documents);
    input.prefix_ends = rows_of(ends);
    return input;
  }
};

struct Gradient {
  const char* name;
  double projection;  // sum over the elements n of the file's tensor of grad[n] cos(n)
};

/// What transformers 5 computed in float64 from `attention_mask` (2, 1, 24, 24): 0 where the key is of the query's
/// document and not behind both the query and the end of the query's prefix, the lowest number elsewhere.
struct Reference {
  const char* name;
  double loss, causal_loss, logit_0_23_5, logit_1_2_7, gradient_norm;
  std::vector<Gradient> gradients;
};

const Reference kReferences[] = {
    {"llama",
     5.600729249473634,
     5.53477480947712,
     -1.2384990433428418,
     1.1702009167574026,
     6.589070486339108,
     {{"model.embed_tokens.weight", -0.5852551656216476},
      {"model.layers.0.self_attn.q_proj.weight", -0.23954724982272335},
      {"model.layers.0.self_attn.k_proj.weight", -0.2996209519800226},
      {"model.layers.1.self_attn.v_proj.weight", -1.1617301104509148}}},
    {"llama-gqa",
     6.344931113318465,
     6.202644676741596,
     0.6505282230962557,
     -0.8583863428647027,
     8.339798596488349,
     {{"model.embed_tokens.weight", 2.3457961013790225},
      {"model.layers.0.self_attn.q_proj.weight", 3.6872416072886653},
      {"model.layers.0.self_attn.k_proj.weight", 0.8273002642863216},
      {"model.layers.1.self_attn.v_proj.weight", -0.9684637962230483}}},
    {"gpt2",
     6.253586827145318,
     6.394274575894526,
     3.2158727669301412,
     -3.176645683390204,
     7.844685470729852,
     {{"transformer.wte.weight", -2.272273450774617},
      {"transformer.h.0.attn.c_attn.weight", 2.388365984326028},
      {"transformer.h.1.attn.c_attn.weight", -0.27887934049917257}}},
};

double loss_of(Model& model, const ModelInput& input) {
  const ModelInput ready = model.prepare(input);
  const NoGrad no_grad;
  return total_loss(model.losses(ready.to(model.device()), mean_scales(model.count_targets(ready)), {})).value().item();
}

TEST(Prefix, LossAndGradientsAreThoseOfTransformers) {
  ONDOL_REQUIRE_DATA("hf_tiny/gpt2");
  for (const Reference& reference : kReferences) {
    SCOPED_TRACE(reference.name);
    const auto model = load_model(test::data_path(std::string("hf_tiny/") + reference.name),
                                  {.device = to_string(testing::test_device()), .dtype = DType::f32});
    const Sample sample(model->info().vocab_size);
    ModelInput causal = sample.input();
    causal.prefix_ends = Tensor();
    EXPECT_NEAR(loss_of(*model, causal), reference.causal_loss, 2e-5);

    const ModelInput ready = model->prepare(sample.input());
    EXPECT_EQ(model->count_targets(ready), std::vector<int64_t>{29});
    const ModelInput input = ready.to(model->device());
    const std::vector<float> logits = model->forward(input, {}).front().second.value().to_vector<float>();
    const auto vocab_size = static_cast<size_t>(model->info().vocab_size);
    EXPECT_NEAR(logits[23 * vocab_size + 5], reference.logit_0_23_5, 2e-5);
    EXPECT_NEAR(logits[(kLength + 2) * vocab_size + 7], reference.logit_1_2_7, 2e-5);

    model->parameters().enable_gradients();
    Tape tape;
    const Variable loss = total_loss(model->losses(input, mean_scales(model->count_targets(ready)), {}));
    EXPECT_NEAR(loss.value().item(), reference.loss, 2e-5);
    tape.backward(loss);
    model->parameters().finish_gradients();
    double squares = 0;
    size_t found = 0;
    for (const WeightSlot& slot : model->weights()) {
      const std::vector<float> gradient = slot.view(slot.parameter.grad()).to_vector<float>();
      double projection = 0;
      for (size_t n = 0; n < gradient.size(); ++n) {
        projection += gradient[n] * std::cos(static_cast<double>(n));
        squares += static_cast<double>(gradient[n]) * gradient[n];
      }
      for (const Gradient& known : reference.gradients) {
        if (slot.name != known.name) continue;
        EXPECT_NEAR(projection, known.projection, 1e-4) << slot.name;
        ++found;
      }
    }
    EXPECT_EQ(found, reference.gradients.size());
    EXPECT_NEAR(std::sqrt(squares), reference.gradient_norm, 1e-4);
  }
}

const char* const kTinyGpt2 = R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 137,
    "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "bidirectional_prefix": true})";

std::unique_ptr<Model> model_of(const std::string& config) {
  const testing::TemporaryDirectory directory;
  return create_model(directory.write("config.json", config), DType::f32, {}, 1);
}

TEST(Prefix, WithoutEndsThePromptIsWhatStandsInFrontOfTheFirstLabel) {
  const auto model = model_of(kTinyGpt2);
  ASSERT_TRUE(model->info().bidirectional_prefix);
  const Sample sample(137);
  ModelInput input = sample.input();
  input.prefix_ends = Tensor();
  EXPECT_EQ(model->prepare(input).prefix_ends.to_vector<int32_t>(), sample.ends);
  input.labels = Tensor();
  EXPECT_EQ(model->prepare(input).prefix_ends.to_vector<int32_t>(), runs({{24, 24}, {10, 10}, {24, 14}}));
  input.documents = Tensor();
  Ids mask = runs({{0, 2}, {1, 22}, {1, 19}, {0, 5}});
  input.attention_mask = rows_of(mask).to(DType::u8);
  EXPECT_EQ(model->prepare(input).prefix_ends.to_vector<int32_t>(), runs({{24, 24}, {19, 19}, {0, 5}}));
  // A text of which every token is to be predicted has no prompt.
  input = sample.input();
  input.prefix_ends = Tensor();
  const double all_labels_loss = [&] {
    input.labels = input.input_ids;
    return loss_of(*model, input);
  }();
  model->set_bidirectional_prefix(false);
  EXPECT_EQ(loss_of(*model, input), all_labels_loss);
  EXPECT_FALSE(model->prepare(input).prefix_ends.defined());
}

TEST(Prefix, EndsThatLeaveATokenLessThanTheOneBeforeAreRefused) {
  const auto model = model_of(kTinyGpt2);
  const auto refusal = [&](const Ids& ends) {
    ModelInput input;
    input.input_ids = Tensor::from_vector(Ids{1, 2, 3, 4}, {1, 4});
    input.prefix_ends = Tensor::from_vector(ends, {1, 4});
    try {
      model->prepare(input);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(refusal({3, 3, 3, 0}), "");
  EXPECT_EQ(refusal({1, 3, 0, 4}), "");
  EXPECT_NE(refusal({3, 0, 3, 0}).find("token 1 sees the tokens before 2"), std::string::npos);
  EXPECT_NE(refusal({-1, 0, 0, 0}).find("prefix_ends"), std::string::npos);
  EXPECT_NE(refusal({65, 65, 65, 65}).find("prefix_ends"), std::string::npos);
}

TEST(Prefix, TheConfigurationOfWhatIsSavedSaysSo) {
  const auto model = model_of(kTinyGpt2);
  const testing::TemporaryDirectory directory;
  save_model(*model, directory.path());
  EXPECT_TRUE(load_model(directory.path())->info().bidirectional_prefix);
  EXPECT_EQ(load_json(directory / "config.json")["bidirectional_prefix"], true);
  EXPECT_THROW(convert_model(directory.path(), directory / "model.gguf"), UsageError);
  model->set_bidirectional_prefix(false);
  save_model(*model, directory.path());
  EXPECT_FALSE(load_model(directory.path())->info().bidirectional_prefix);
  EXPECT_FALSE(load_json(directory / "config.json").contains("bidirectional_prefix"));
}

TEST(Prefix, ModelsWhoseAttentionTakesNoneAreNamed) {
  const auto bert = model_of(R"({"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 50,
      "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32})");
  try {
    bert->set_bidirectional_prefix(true);
    FAIL() << "not refused";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("bert"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace ondol
