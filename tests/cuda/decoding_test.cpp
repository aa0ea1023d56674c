// Decoding on cuda:0, which in this program is the emulated backend: captured and replayed steps against eager ones and
// against the CPU. The emulated capture refuses what a captured stream refuses (waiting, copies from and to the host).
#include <cstring>

#include <gtest/gtest.h>

#include <ondol/base/error.h>
#include <ondol/generate/generate.h>

#include "generate/decode_step.h"
#include "support/cuda_emulation/emulator.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

constexpr Device kCuda{DeviceType::cuda, 0};
constexpr int32_t kVocabulary = 40;

const char* const kLlama = R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 40,
  "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
  "num_key_value_heads": 1, "max_position_embeddings": 320, "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
  "initializer_range": 0.5})";
const char* const kGpt2 =
    R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 40, "n_embd": 16,
  "n_layer": 2, "n_head": 2, "n_positions": 320, "initializer_range": 0.5})";
const char* const kT5 = R"({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 40,
  "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "relative_attention_num_buckets": 8,
  "relative_attention_max_distance": 20, "initializer_factor": 1.0, "decoder_start_token_id": 0, "pad_token_id": 0,
  "no_repeat_ngram_size": 4, "min_length": 3})";
const char* const kMarian = R"({"model_type": "marian", "architectures": ["MarianMTModel"], "vocab_size": 40,
  "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_layers": 2,
  "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "max_position_embeddings": 320, "init_std": 0.5,
  "scale_embedding": true, "decoder_start_token_id": 1, "pad_token_id": 1})";

std::unique_ptr<Model> make_model(const char* config, Device device, DType dtype = DType::f32) {
  const testing::TemporaryDirectory directory;
  return create_model(directory.write("config.json", config), dtype, device, 21);
}

std::vector<std::vector<int32_t>> prompts(std::initializer_list<int32_t> lengths) {
  std::vector<std::vector<int32_t>> out;
  for (const int32_t length : lengths) {
    out.emplace_back();
    for (int32_t t = 0; t < length; ++t) out.back().push_back((7 * t * t + 3 * length + t) % kVocabulary);
  }
  return out;
}

class CapturedDecoding : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, CapturedDecoding, ::testing::Values(kLlama, kGpt2, kT5, kMarian));

/// Feeds the same tokens to a decoder that captures and to one that starts anew each time, and so never does.
void expect_the_same_logits(const char* config, DType dtype, std::initializer_list<int32_t> lengths, int steps,
                            uint64_t replays) {
  emulation::set_seed(1);
  const auto model = make_model(config, kCuda, dtype);
  const auto first = prompts(lengths);
  std::vector<std::span<const int32_t>> tokens(first.begin(), first.end());
  const int64_t rows = static_cast<int64_t>(first.size());
  KvCache cache = model->make_cache(rows, 320), other = model->make_cache(rows, 320);
  for (KvCache* each : {&cache, &other}) encode_sources(*model, tokens, *each);
  Decoder captured(*model, cache);
  std::vector<int32_t> next(first.size());
  for (int step = 0; step <= steps; ++step) {
    Decoder eager(*model, other);
    const std::vector<float> a = captured.step(tokens).to(DType::f32).to_vector<float>();
    const std::vector<float> b = eager.step(tokens).to(DType::f32).to_vector<float>();
    EXPECT_EQ(eager.replays(), 0u);
    for (size_t row = 0; row < next.size(); ++row) {
      const size_t begin = row * kVocabulary;
      if (!tokens[row].empty()) {
        EXPECT_EQ(std::memcmp(&a[begin], &b[begin], kVocabulary * sizeof(float)), 0)
            << "step " << step << ", row " << row;
      }
      next[row] = static_cast<int32_t>((static_cast<size_t>(step) * 5 + 11 * row + 1) % kVocabulary);
      // Rows pause and go on: what a row brings is no part of the captured work.
      const bool pauses = row > 0 && (static_cast<size_t>(step) + row) % 3 == 0;
      tokens[row] = pauses ? std::span<const int32_t>() : std::span<const int32_t>(&next[row], 1);
    }
  }
  EXPECT_GE(captured.replays(), replays);
}

TEST_P(CapturedDecoding, AReplayedStepIsAnEagerStepToTheLastByte) {
  expect_the_same_logits(GetParam(), DType::f32, {5, 1, 3}, 12, 8);
  expect_the_same_logits(GetParam(), DType::bf16, {2}, 7, 3);
}

TEST_P(CapturedDecoding, AGrowingReachIsCapturedAnew) {
  expect_the_same_logits(GetParam(), DType::f32, {249, 4}, 16, 6);  // reaches 256 and then the capacity of 320
}

TEST_P(CapturedDecoding, GeneratesWhatTheCpuGenerates) {
  const auto cuda = make_model(GetParam(), kCuda), cpu = make_model(GetParam(), {});
  const auto ids = prompts({6, 2, 9});
  GenerateOptions greedy{.max_new_tokens = 9, .ignore_eos = true};
  GenerateOptions drawn = greedy;
  drawn.sampling = {.temperature = 0.9f, .top_k = 12, .top_p = 0.9f, .repetition_penalty = 1.3f, .seed = 5};
  GenerateOptions ragged = drawn;  // rows end at different steps
  ragged.ignore_eos = false;
  ragged.eos_token_ids = {1, 4, 9, 13, 22, 30};
  GenerateOptions beams = greedy;
  beams.num_beams = 3;
  size_t shortest = 100, longest = 0;
  for (const GenerateOptions& options : {greedy, drawn, ragged, beams}) {
    emulation::set_seed(2);
    const auto a = generate_ids(*cuda, ids, options), b = generate_ids(*cpu, ids, options);
    for (size_t i = 0; i < ids.size(); ++i) {
      EXPECT_EQ(a[i].tokens, b[i].tokens) << i;
      shortest = std::min(shortest, a[i].tokens.size());
      longest = std::max(longest, a[i].tokens.size());
    }
  }
  EXPECT_LT(shortest, longest);
}

TEST(CapturedDecodingErrors, WaitingForTheDeviceIsRefused) {
  const auto model = make_model(kLlama, kCuda);
  KvCache cache = model->make_cache(1, 64);
  std::vector<float> seen;
  Decoder decoder(*model, cache, [&seen](const Tensor& logits) { seen = logits.to_vector<float>(); });
  const int32_t token = 3;
  int steps = 0;
  try {
    for (; steps < 6; ++steps) decoder.step({{&token, 1}});
    FAIL() << "a captured step read its logits";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("while a stream is captured"), std::string::npos) << error.what();
  }
  EXPECT_GE(steps, 2) << "eager steps may";
  EXPECT_EQ(decoder.replays(), 0u);
}

}  // namespace
}  // namespace ondol
