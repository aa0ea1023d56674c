// From text to a trained model: tokenizer, packing, training, a directory that loads again.
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

#include <ondol/base/philox.h>
#include <ondol/tokenizer/bpe_trainer.h>
#include <ondol/train/text_encoder.h>
#include <ondol/train/trainer.h>

#include "support/temporary_directory.h"
#include "train/fault_injection.h"
#include "train/run_watch.h"

namespace ondol {
namespace {

/// Sentences of a small grammar, documents separated by empty lines.
std::string small_corpus(int documents) {
  const char* const who[] = {"the cat", "a dog", "my sister", "the old man"};
  const char* const what[] = {"sees", "likes", "paints", "finds"};
  const char* const whom[] = {"the moon", "a red boat", "some bread", "two stones"};
  std::string text;
  for (int d = 0; d < documents; ++d) {
    for (int s = 0; s < 6; ++s) {
      const uint32_t draw = philox_word({9, 0, 0}, static_cast<uint64_t>(6 * d + s));
      text += concat(who[draw % 4], " ", what[draw / 4 % 4], " ", whom[draw / 16 % 4], " .\n");
    }
    text += "\n";
  }
  return text;
}

Tokenizer small_tokenizer(const std::string& corpus, bool bos = false) {
  BpeTrainerOptions options;
  options.vocab_size = 320;
  options.special_tokens = {"<|endoftext|>"};
  options.roles["eos"] = "<|endoftext|>";
  if (bos) options.roles["bos"] = "<|endoftext|>";
  options.add_bos = bos;
  return train_bpe_files({corpus}, options);
}

TEST(TextEncoder, SaysWhatTheDataLayerNeeds) {
  const testing::TemporaryDirectory directory;
  const std::string corpus = directory.write("corpus.txt", small_corpus(30));
  const Tokenizer tokenizer = small_tokenizer(corpus), with_bos = small_tokenizer(corpus, true);
  const TextEncoder encoder = make_text_encoder(tokenizer), other = make_text_encoder(with_bos);
  EXPECT_EQ(encoder.vocab_size, tokenizer.vocab_size());
  EXPECT_EQ(encoder.eos_id, tokenizer.token_to_id("<|endoftext|>"));
  EXPECT_EQ(encoder.bos_id, -1);
  EXPECT_EQ(other.bos_id, encoder.eos_id);
  EXPECT_TRUE(encoder.splits_at_newlines);
  const std::vector<std::string> texts = {"the cat sees", "<|endoftext|>"};
  std::vector<std::vector<int32_t>> ids;
  encoder.encode(texts, ids);
  ASSERT_EQ(ids.size(), 2u);
  EXPECT_EQ(tokenizer.decode(ids[0]), texts[0]);
  EXPECT_GT(ids[1].size(), 1u);  // plain text, not the special token

  tokenizer.save(directory / "tokenizer");
  EXPECT_EQ(make_text_encoder(load_tokenizer(directory / "tokenizer")).fingerprint, encoder.fingerprint);
  const Tokenizer another = small_tokenizer(directory.write("other.txt", small_corpus(30) + "zebra zebra zebra"));
  EXPECT_NE(make_text_encoder(another).fingerprint, encoder.fingerprint);
}

TEST(TokenizerSave, AnyFailedWriteIsNamedAndLeavesTheEarlierFiles) {
  const testing::TemporaryDirectory directory;
  const std::string corpus = directory.write("corpus.txt", small_corpus(30));
  const Tokenizer earlier = small_tokenizer(corpus), later = small_tokenizer(corpus, true);
  const std::string target = directory / "tokenizer";
  earlier.save(target);
  const std::string before = directory.read("tokenizer/tokenizer.json");
  int failures = 0;
  for (int n = 0;; ++n, ++failures) {
    try {
      const testing::FaultInjection injection(n, EIO);
      later.save(target);
      break;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(std::strerror(EIO)), std::string::npos) << error.what();
    }
    const std::string now = directory.read("tokenizer/tokenizer.json");
    EXPECT_TRUE(now == before || load_tokenizer(target).vocab_size() == later.vocab_size());
    for (const auto& entry : std::filesystem::directory_iterator(target)) {
      EXPECT_EQ(entry.path().filename().string().find(".tmp"), std::string::npos) << entry.path();
    }
  }
  EXPECT_GE(failures, 8);  // open, write, fsync and rename of two files at least
}

TEST(TextRun, LlamaLearnsASmallGrammar) {
  const testing::TemporaryDirectory directory;
  const std::string corpus = directory.write("corpus.txt", small_corpus(300));
  small_tokenizer(corpus).save(directory / "tokenizer");
  directory.write("model.json", R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 320,
      "max_position_embeddings": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
      "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
      "initializer_range": 0.02, "tie_word_embeddings": true})");
  const TrainConfig config = TrainConfig::from_json(concat(
      R"({"model": {"config": ")", directory / "model.json", R"("}, "tokenizer": {"path": ")", directory / "tokenizer",
      R"("}, "data": {"train": [{"path": ")", corpus, R"("}], "document_separator": "blank_line",
      "validation_fraction": 0.1, "sequence_length": 32}, "optimizer": {"learning_rate": 1e-2},
      "schedule": {"type": "wsd", "warmup_steps": 5}, "train": {"steps": 60, "batch_size": 8},
      "evaluation": {"every": 30}, "output": ")",
      directory / "run", "\"}"));
  testing::RunWatch watch;
  Trainer trainer(config, watch.watched());
  const TrainResult result = trainer.run();
  ASSERT_EQ(watch.losses.size(), 60u);
  EXPECT_NEAR(watch.losses[0], std::log(320.0), 0.2);
  // The grammar has 6 bits in about 8 tokens: log(64) / 8 = 0.52 nats a token.
  EXPECT_LT(watch.losses.back(), 1.0);
  EXPECT_NEAR(watch.evaluations.back().loss, watch.losses.back(), 0.2);

  const auto model = load_model(result.directory, {.device = "cpu"});
  EXPECT_EQ(model->parameters().flat_values().to_vector<float>(),
            trainer.model().parameters().flat_values().to_vector<float>());
  EXPECT_EQ(load_tokenizer(result.directory).encode("the cat"),
            load_tokenizer(directory / "tokenizer").encode("the cat"));
}

/// A run whose batches and rows grow, then one with longer samples and slower rotation, with moving shares.
TrainConfig growing_run(const testing::TemporaryDirectory& directory, const std::string& run) {
  const auto source = [&](const char* file, double weight, double final_weight) {
    return concat(R"({"path": ")", directory / file, R"(", "weight": )", weight, R"(, "final_weight": )", final_weight,
                  "}");
  };
  return TrainConfig::from_json(
      concat(R"({"model": {"config": ")", directory / "model.json", R"("}, "tokenizer": {"path": ")",
             directory / "tokenizer", R"("}, "data": {"train": [)", source("a.txt", 3, 1), ", ", source("b.txt", 1, 2),
             R"(], "document_separator": "blank_line", "sequence_length": 32}, "optimizer": {"learning_rate": 1e-2},
      "stages": [{"train": {"steps": 8, "batch_size": 8, "micro_batch_size": 2, "batch_ramp": {"start": 2, "steps": 6},
                            "length_ramp": {"start": 8, "steps": 4}}},
                 {"train": {"steps": 3, "batch_size": 2}, "data": {"sequence_length": 128},
                  "model": {"rope_theta": 500000.0, "max_position_embeddings": 128}},
                 {"train": {"steps": 2, "batch_size": 2}, "data": {"sequence_length": 100}}],
      "checkpoint": {"every": 1}, "output": ")",
             directory / run, "\"}"));
}

TEST(TextRun, StagesGrowAndContinueAfterAnInterruption) {
  const testing::TemporaryDirectory directory;
  const std::string corpus = directory.write("a.txt", small_corpus(200));
  directory.write("b.txt", small_corpus(100));
  small_tokenizer(corpus).save(directory / "tokenizer");
  directory.write("model.json", R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 320,
      "max_position_embeddings": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
      "num_attention_heads": 2, "num_key_value_heads": 1, "rope_theta": 10000.0, "tie_word_embeddings": true})");
  testing::RunWatch whole, parts;
  Trainer(growing_run(directory, "whole"), whole.watched()).run();
  std::vector<int64_t> samples, tokens;
  for (const StepMetrics& step : whole.steps) {
    samples.push_back(step.samples);
    tokens.push_back(step.tokens);
  }
  // Rows of 8 tokens in steps 1 and 2, of 16 in steps 3 and 4; samples of 32 tokens: 2, 2, 4, 4, 6, 6, 8, 8.
  EXPECT_EQ(tokens, (std::vector<int64_t>{64, 128, 256, 384, 576, 768, 1024, 1280, 1536, 1792, 2048, 2248, 2448}));
  EXPECT_EQ(samples, (std::vector<int64_t>{8, 16, 24, 32, 38, 44, 52, 60, 62, 64, 66, 68, 70}));

  for (const int64_t until : {3, 7, 9, 12, -1}) {
    Trainer(growing_run(directory, "parts"), parts.watched("", until)).run();
  }
  EXPECT_EQ(parts.losses, whole.losses);
  const auto first = load_model(directory / "whole/final"), second = load_model(directory / "parts/final");
  EXPECT_EQ(first->parameters().flat_values().to_vector<float>(),
            second->parameters().flat_values().to_vector<float>());
  EXPECT_EQ(first->info().max_positions, 128);
  EXPECT_EQ(first->info().rope_theta, 500000.0);
}

TEST(TextRun, SizesThatDoNotFitAreNamed) {
  const testing::TemporaryDirectory directory;
  const auto error_of = [&](const std::string& train) {
    try {
      TrainConfig::from_json(concat(R"({"model": {"config": "m"}, "data": {"train": [{"path": "x"}],
          "sequence_length": 48}, "train": {"steps": 10, "batch_size": 8, "micro_batch_size": 2, )",
                                    train, "}}"));
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(error_of(R"("batch_ramp": {"start": 4, "steps": 10})"), "");
  EXPECT_NE(error_of(R"("batch_ramp": {"start": 3, "steps": 10})").find("batch_ramp"), std::string::npos);
  EXPECT_NE(error_of(R"("batch_ramp": {"start": 4, "steps": 11})").find("batch_ramp.steps"), std::string::npos);
  EXPECT_NE(error_of(R"("length_ramp": {"start": 16, "steps": 5})").find("length_ramp"), std::string::npos);
  EXPECT_EQ(error_of(R"("length_ramp": {"start": 12, "steps": 5})"), "");
}

TEST(TextRun, ATokenizerLargerThanTheModelIsRefused) {
  const testing::TemporaryDirectory directory;
  const std::string corpus = directory.write("corpus.txt", small_corpus(30));
  small_tokenizer(corpus).save(directory / "tokenizer");
  directory.write("model.json", R"({"model_type": "gpt2", "vocab_size": 300, "n_positions": 32, "n_embd": 16,
      "n_layer": 1, "n_head": 2})");
  const TrainConfig config = TrainConfig::from_json(
      concat(R"({"model": {"config": ")", directory / "model.json", R"("}, "tokenizer": {"path": ")",
             directory / "tokenizer", R"("}, "data": {"train": [{"path": ")", corpus, R"("}], "sequence_length": 16},
      "train": {"steps": 1, "batch_size": 1}, "output": ")",
             directory / "run", "\"}"));
  EXPECT_THROW(Trainer(config, {.device = "cpu"}).run(), UsageError);
}

}  // namespace
}  // namespace ondol
