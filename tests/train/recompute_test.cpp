// Gradient checkpointing: the same bytes as without, for every kind of stack, with dropout.
#include <gtest/gtest.h>

#include <ondol/tensor/allocator.h>

#include "support/temporary_directory.h"
#include "train/tiny_run.h"

namespace ondol {
namespace {

const char* const kConfigs[] = {
    R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32, "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 32, "attention_dropout": 0.1})",
    R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 32, "n_positions": 32, "n_embd": 16,
        "n_layer": 2, "n_head": 2})",
    R"({"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 32, "hidden_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32})",
    R"({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 32, "d_model": 16, "d_kv": 8,
        "d_ff": 24, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.1, "decoder_start_token_id": 0, "pad_token_id": 0})",
    R"({"model_type": "bart", "architectures": ["BartForConditionalGeneration"], "vocab_size": 32, "d_model": 16,
        "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 32, "dropout": 0.1,
        "attention_dropout": 0.1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2})"};

class Recompute : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, Recompute, ::testing::ValuesIn(kConfigs));

TEST_P(Recompute, GradientsAreTheSameToTheBit) {
  const testing::TemporaryDirectory directory;
  const auto model = create_model(directory.write("config.json", GetParam()), DType::f32, {}, 3);
  std::vector<int32_t> ids;
  for (int i = 0; i < 2 * 12; ++i) ids.push_back(3 + static_cast<int32_t>(philox_word({1, 0, 0}, i) % 29));
  const Tensor tokens = Tensor::from_vector(ids, {2, 12});
  const ModelInput input = model->prepare({.input_ids = tokens, .labels = tokens});
  model->parameters().enable_gradients();
  struct Result {
    float loss;
    std::vector<float> gradients;
    uint64_t kept;
  };
  const auto run = [&](bool recompute) {
    ForwardContext context;
    context.training = true;
    context.recompute_layers = recompute;
    context.rng = {7, 0, Tensor::from_vector<int64_t>({5}, {1})};
    model->parameters().clear_gradients();
    Tape tape;
    const Variable loss = total_loss(model->losses(input, mean_scales(model->count_targets(input)), context));
    const uint64_t kept = memory_statistics(model->device()).allocated;
    tape.backward(loss);
    model->parameters().finish_gradients();
    return Result{static_cast<float>(loss.value().item()), model->parameters().flat_gradients().to_vector<float>(),
                  kept};
  };
  const Result plain = run(false), again = run(true);
  EXPECT_EQ(plain.loss, again.loss);
  EXPECT_EQ(plain.gradients, again.gradients);
  EXPECT_LT(again.kept, plain.kept);
}

TEST(GradientCheckpointing, ARunIsTheSameWithAndWithout) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory, /*dropout=*/0.1);
  for (const char* run : {"true", "false"}) {
    Trainer trainer(testing::tiny_config(directory, run, {std::string("train.gradient_checkpointing=") + run}),
                    {.device = "cpu"});
    EXPECT_TRUE(trainer.run().finished);
  }
  EXPECT_EQ(directory.read("true/final/model.safetensors"), directory.read("false/final/model.safetensors"));
}

}  // namespace
}  // namespace ondol
