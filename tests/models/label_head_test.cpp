// Heads for labels on decoders and encoder-decoders, against what transformers 5 computes in float64 with the same
// weights: those of the tensors in the order of their names, 0.2 sin(0.7 i + number of the tensor), 1 more in the
// weights of norms.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include <ondol/io/safetensors.h>
#include <ondol/models/model.h>

#include "base/json_reader.h"
#include "support/error_of.h"
#include "support/temporary_directory.h"
#include "support/test_device.h"

namespace ondol {
namespace {

constexpr const char* kSizes[][2] = {
    {"gpt2", R"("vocab_size": 20, "n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2, "pad_token_id": 0)"},
    {"llama", R"("vocab_size": 20, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
      "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16, "pad_token_id": 0)"},
    {"bart", R"("vocab_size": 20, "d_model": 8, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2,
      "decoder_attention_heads": 2, "encoder_ffn_dim": 12, "decoder_ffn_dim": 12, "max_position_embeddings": 16,
      "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2)"},
    {"t5", R"("vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_decoder_layers": 1,
      "num_heads": 2, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
      "feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 8,
      "relative_attention_max_distance": 16)"}};

std::string config_of(const std::string& model_type, const std::string& architecture) {
  for (const auto& [name, sizes] : kSizes) {
    if (model_type != name && !(model_type == "mbart" && std::string(name) == "bart")) continue;
    return concat(R"({"model_type": ")", model_type, R"(", "architectures": [")", architecture,
                  R"("], "id2label": {"0": "a", "1": "b", "2": "c"}, )", sizes, "}");
  }
  return "";
}

std::unique_ptr<Model> filled_model(const std::string& path) {
  auto model = create_model(path, DType::f32, testing::test_device(), 1);
  std::vector<const WeightSlot*> slots;
  for (const WeightSlot& slot : model->weights()) slots.push_back(&slot);
  std::sort(slots.begin(), slots.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  for (size_t number = 0; number < slots.size(); ++number) {
    const WeightSlot& slot = *slots[number];
    const bool norm = slot.name.find("norm") != std::string::npos || slot.name.find("ln_") != std::string::npos;
    std::vector<float> values;
    for (int64_t i = 0; i < slot.shape.numel(); ++i) {
      values.push_back(static_cast<float>(0.2 * std::sin(0.7 * static_cast<double>(i) + static_cast<double>(number))));
      if (norm && slot.name.ends_with("weight")) values.back() += 1.0f;
    }
    slot.view(slot.parameter.value()).copy_from(Tensor::from_vector(values, slot.shape).to(model->device()));
  }
  return model;
}

struct Known {
  const char* model_type;
  const char* architecture;
  size_t tensors;
  std::vector<double> logits;  // of sequences, or of all tokens that are no padding
  double loss, grad_norm;
};

class LabelHeads : public ::testing::TestWithParam<Known> {};

TEST_P(LabelHeads, OutputsLossAndGradientAreThoseOfTransformers) {
  const Known& known = GetParam();
  const testing::TemporaryDirectory directory;
  const std::string text = config_of(known.model_type, known.architecture);
  const auto model = filled_model(directory.write("config.json", text));
  EXPECT_EQ(model->info().architecture, known.architecture);
  EXPECT_EQ(model->weights().size(), known.tensors);
  EXPECT_EQ(model->info().labels, (std::vector<std::string>{"a", "b", "c"}));
  const bool of_tokens = model->info().head == Head::token_classification;
  const int32_t pad = *model->info().pad_token_id, end = pad == 1 ? 2 : 1;
  ModelInput input;
  input.input_ids = Tensor::from_vector(std::vector<int32_t>{5, 7, 9, 11, 13, end, 6, 3, 8, end, pad, pad}, {2, 6});
  input.attention_mask = Tensor::from_vector(std::vector<uint8_t>{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0}, {2, 6});
  constexpr int32_t kNone = kIgnoreIndex;
  input.labels = of_tokens ? Tensor::from_vector(
                                 std::vector<int32_t>{0, kNone, 2, 1, kNone, 0, 2, 1, kNone, 0, kNone, kNone}, {2, 6})
                           : Tensor::from_vector(std::vector<int32_t>{2, 0}, {2});
  const ModelInput prepared = model->prepare(input);
  const ModelInput placed = prepared.to(model->device());
  model->parameters().enable_gradients();
  Tape tape;
  const Variable loss = total_loss(model->losses(placed, mean_scales(model->count_targets(prepared)), {}));
  EXPECT_NEAR(loss.value().item(), known.loss, 1e-5);
  tape.backward(loss);
  model->parameters().finish_gradients();
  double squares = 0.0;
  for (const float g : model->parameters().flat_gradients().to_vector<float>()) squares += double{g} * g;
  EXPECT_NEAR(std::sqrt(squares), known.grad_norm, 1e-5 * known.grad_norm);

  const auto check = [&](Model& checked) {
    const NamedOutputs outputs = checked.forward(placed, {});
    ASSERT_EQ(outputs.front().first, "logits");
    const std::vector<float> logits = outputs.front().second.value().to_vector<float>();
    ASSERT_EQ(logits.size(), of_tokens ? 36u : 6u);
    for (size_t i = 0; i < known.logits.size(); ++i) EXPECT_NEAR(logits[i], known.logits[i], 1e-5) << i;
  };
  check(*model);
  save_model(*model, directory / "saved");
  check(*load_model(directory / "saved", {.device = to_string(model->device())}));
}

/// A new head on a language model: the backbone is loaded, the language model's head left out, whatever the labels.
TEST_P(LabelHeads, NewHeadTakesTheBackbone) {
  const Known& known = GetParam();
  const testing::TemporaryDirectory directory;
  const std::string plain = config_of(known.model_type, "");
  const auto base = filled_model(directory.write("config.json", plain));
  save_model(*base, directory / "base");
  const auto model = filled_model(directory.write("config.json", config_of(known.model_type, known.architecture)));
  const Head head = model->info().head;
  const auto fresh = load_model(directory / "base", {.device = to_string(base->device()),
                                                     .head = HeadRequest{.head = head, .labels = {"x", "y"}}});
  EXPECT_EQ(fresh->info().architecture, known.architecture);
  EXPECT_EQ(fresh->info().labels, (std::vector<std::string>{"x", "y"}));
  size_t same = 0, of_head = 0;
  for (const WeightSlot& slot : fresh->weights()) {
    bool found = false;
    for (const WeightSlot& other : base->weights()) {
      if (slot.name != other.name && slot.name != "transformer." + other.name) continue;
      EXPECT_EQ(slot.view(slot.parameter.value()).to_vector<float>(),
                other.view(other.parameter.value()).to_vector<float>())
          << slot.name;
      found = true;
    }
    ++(found ? same : of_head);
  }
  EXPECT_EQ(same + of_head, known.tensors);
  const std::string type = known.model_type;
  const bool decoder = type == "gpt2" || type == "llama";
  EXPECT_EQ(of_head, head == Head::token_classification ? 2u : decoder ? 1u : 4u);
}

INSTANTIATE_TEST_SUITE_P(
    Transformers, LabelHeads,
    ::testing::Values(Known{"gpt2",
                            "GPT2ForSequenceClassification",
                            29,
                            {0.721296953, -0.0973059158, -0.872231302, 0.766584467, -0.0491333246, -0.84279678},
                            1.293466677,
                            2.492303661},
                      Known{"gpt2",
                            "GPT2ForTokenClassification",
                            30,
                            {-0.838443795, -0.88621947,  -0.538962736, -0.883870224, -0.879002314, -0.482341545,
                             -0.843898277, -0.885774378, -0.532817858, -0.74506111,  -0.881368069, -0.624820262,
                             -0.830886426, -0.886310932, -0.546661974, -0.964806021, -0.832697038, -0.329580161,
                             -0.903712356, -0.872806113, -0.452888289, -0.690771557, -0.870491387, -0.662238649,
                             -0.865298853, -0.882971385, -0.50706947,  -0.784927403, -0.885967941, -0.592088976},
                            1.130346796,
                            8.992036767},
                      Known{"llama",
                            "LlamaForSequenceClassification",
                            21,
                            {0.00381306487, -0.198395052, -0.311549942, 0.634058518, 0.117230016, -0.452219334},
                            0.9547954047,
                            3.738736208},
                      Known{"llama",
                            "LlamaForTokenClassification",
                            22,
                            {0.749003133, 0.734978056, 0.386921846,   0.429310946, 0.790635888, 0.792946664,
                             0.327448109, 0.192326088, -0.0332478278, -0.15832159, 0.169676823, 0.417389872,
                             0.137208309, 0.520964896, 0.666754063,   0.453049577, 0.295224819, 0.00076018833,
                             0.336691398, 0.867024278, 1.00405467,    0.685117377, 1.18004857,  1.14117061,
                             1.03749147,  0.642958127, -0.0443015412, 1.02440861,  0.979567977, 0.490907541},
                            1.007134795,
                            1.485543581},
                      Known{"bart",
                            "BartForSequenceClassification",
                            79,
                            {-0.17246181, -0.500342751, -0.605468955, 0.50419032, 0.5959944, 0.41844228},
                            1.199368502,
                            2.733616966},
                      Known{"mbart",
                            "MBartForSequenceClassification",
                            83,
                            {-0.441969736, -0.591923564, -0.478014944, 0.351784372, 0.497103706, 0.417455728},
                            1.122693272,
                            1.634684485},
                      Known{"t5",
                            "T5ForSequenceClassification",
                            41,
                            {-0.309883432, 0.12882262, 0.507871031, 0.381586301, -0.114422934, -0.56090457},
                            0.7233321601,
                            1.529345911}));

TEST(LabelHead, WhatIsMissingIsNamed) {
  const testing::TemporaryDirectory directory;
  const auto t5 = create_model(directory.write("t5.json", config_of("t5", "T5ForSequenceClassification")), DType::f32,
                               testing::test_device(), 1);
  ModelInput input;
  input.input_ids = Tensor::from_vector(std::vector<int32_t>{5, 7, 9, 11}, {1, 4});
  EXPECT_NE(testing::error_of([&] { t5->prepare(input); }).find("row 0 of input_ids has no end token"),
            std::string::npos);
  const auto gpt2 = create_model(directory.write("gpt2.json", config_of("gpt2", "GPT2ForSequenceClassification")),
                                 DType::f32, testing::test_device(), 1);
  EXPECT_NE(testing::error_of([&] { gpt2->output_projection(); }), "no error");
  EXPECT_NE(testing::error_of([&] {
              create_model(directory / "t5.json", DType::f32, testing::test_device(), 1, {},
                           HeadRequest{.head = Head::token_classification});
            }).find("a t5 model has no head that classifies tokens"),
            std::string::npos);
}

}  // namespace
}  // namespace ondol
