// Runs whose weights are shared out among ranks (parallel.zero_stage 3): model families, evaluation, memory.
#include <gtest/gtest.h>

#include <ondol/models/model.h>

#include "support/error_of.h"
#include "train/rank_runs.h"

namespace ondol {
namespace {

using testing::expect_same_results;
using testing::TemporaryDirectory;
using testing::train_on;

constexpr const char* kSizes = R"("vocab_size": 64, "initializer_range": 0.1, "init_std": 0.1, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0, "hidden_dropout_prob": 0.1)";

struct Family {
  const char* name;
  const char* config;  // beside kSizes
};

const Family kFamilies[] = {
    {"llama", R"("model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 32, "tie_word_embeddings": false)"},
    {"gpt2", R"("model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_positions": 32, "n_embd": 64,
        "n_layer": 2, "n_head": 2)"},
    {"bert", R"("model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96, "max_position_embeddings": 32)"},
    {"t5", R"("model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 64, "d_kv": 16,
        "d_ff": 96, "num_layers": 2, "num_heads": 4)"},
    {"bart", R"("model_type": "bart", "architectures": ["BartForConditionalGeneration"], "d_model": 64,
        "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "max_position_embeddings": 32)"}};

class WeightSharding : public ::testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    testing::write_tiny_inputs(directory);
    directory.write("model.json", concat("{", GetParam().config, ", ", kSizes, "}"));
  }
  /// 3 micro-batches a step and 2 of 3 samples to validate with: some ranks have none.
  void run(int ranks, const std::string& name, std::vector<std::string> more) const {
    more.insert(more.end(), {"train.batch_size=6", "train.micro_batch_size=2", "evaluation.every=4",
                             concat("parallel.zero_stage=", ranks > 1 ? 3 : 0)});
    const auto errors = train_on(ranks, [&](int) { return testing::tiny_config(directory, name, more); });
    ASSERT_EQ(errors, std::vector<std::string>(static_cast<size_t>(ranks))) << name;
  }

  TemporaryDirectory directory;
};
INSTANTIATE_TEST_SUITE_P(Families, WeightSharding, ::testing::ValuesIn(kFamilies),
                         [](const auto& tested) { return tested.param.name; });

TEST_P(WeightSharding, SameBytesAsOneProcess) {
  for (const bool keep_best : {false, true}) {
    const std::vector<std::string> more = {concat("evaluation.keep_best=", keep_best ? "true" : "false"),
                                           concat("train.dtype=", keep_best ? "bf16" : "f32")};
    const std::string one = concat("one", keep_best);
    run(1, one, more);
    for (const int ranks : {2, 4}) {
      const std::string name = concat("on", ranks, keep_best);
      run(ranks, name, more);
      expect_same_results(directory, one, name);
    }
  }
}

/// A generator is trained along, whose embeddings are those of the model.
class SharedGenerator : public ::testing::Test {
 protected:
  void SetUp() override {
    std::vector<int32_t> ids;
    for (int i = 0; i < 24 * 16; ++i) ids.push_back(static_cast<int32_t>(5 + philox_word({1, 0, 0}, i) % 59));
    for (const char* name : {"train", "valid"}) {
      write_safetensors(directory / (std::string(name) + ".safetensors"),
                        {{"input_ids", Tensor::from_vector(ids, {24, 16})}});
    }
    directory.write("model.json", R"({"model_type": "electra", "architectures": ["ElectraForPreTraining"],
        "vocab_size": 64, "embedding_size": 32, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 96, "max_position_embeddings": 32, "initializer_range": 0.1})");
  }
  TrainConfig config(const std::string& run, const std::string& sharing, int stage) const {
    return testing::tiny_config(
        directory, run,
        {concat(R"(objective={"type": "rtd", "mlm": {"mask_token_id": 4, "probability": 0.3}, "embedding_sharing": ")",
                sharing, "\"}"),
         concat("parallel.zero_stage=", stage), "train.batch_size=6", "optimizer.ema_decay=0.5"});
  }

  TemporaryDirectory directory;
};

TEST_F(SharedGenerator, SameBytesAsOneProcess) {
  for (const int ranks : {1, 2, 4}) {
    const std::string name = concat("on", ranks);
    const auto errors = train_on(ranks, [&](int) { return config(name, "shared", ranks > 1 ? 3 : 0); });
    ASSERT_EQ(errors, std::vector<std::string>(static_cast<size_t>(ranks)));
    expect_same_results(directory, "on1", name);
  }
  EXPECT_FALSE(directory.read("on4/final/generator/model.safetensors").empty());
}

TEST_F(SharedGenerator, SumsOfEmbeddingsAreRefused) {
  const auto errors = train_on(2, [&](int) { return config("run", "disentangled", 3); });
  EXPECT_NE(errors[0].find("parallel.zero_stage 3 and objective.embedding_sharing"), std::string::npos) << errors[0];
}

}  // namespace
}  // namespace ondol
