// Fine-tuning on conversations: what is learned of a record, and that packing changes nothing.
#include <ondol/base/error.h>
#include <ondol/data/data_loader.h>
#include <ondol/train/objective.h>

#include <gtest/gtest.h>

#include "data/record_encoder.h"
#include "data/record_reader.h"
#include "support/byte_tokenizer.h"
#include "support/error_of.h"
#include "support/temporary_directory.h"
#include "support/test_data.h"
#include "train/objectives/conversation.h"

namespace ondol {
namespace {

using testing::byte_tokenizer;
using testing::error_of;
using testing::kChatMl;
using testing::kTurnEnd;
using testing::TemporaryDirectory;

std::unique_ptr<Model> tiny_llama() {
  const TemporaryDirectory directory;
  return create_model(directory.write("config.json", R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"],
    "vocab_size": 258, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 256, "initializer_range": 0.3, "pad_token_id": 257,
    "eos_token_id": 257})"),
                      DType::f32, {}, 3);
}

/// The text of the learned tokens, "|" between runs of them; special tokens as <...>.
std::string learned(const Tokenizer& tokenizer, const LabelledTokens& tokens) {
  std::string text;
  bool before = false;
  for (size_t t = 0; t < tokens.ids.size(); ++t) {
    const bool now = tokens.labels[t] != kIgnoreIndex;
    EXPECT_EQ(tokens.labels[t], now ? tokens.ids[t] : kIgnoreIndex);
    if (now && !before && !text.empty()) text += "|";
    if (now) text += tokenizer.decode({{tokens.ids[t]}});
    before = now;
  }
  return text;
}

LabelledTokens tokens_of(const Tokenizer& tokenizer, const std::string& record_text) {
  const Record record(parse_json(record_text, "record"), std::make_shared<const std::string>("chat.jsonl"), 7, true,
                      nullptr);
  if (is_plain_completion(record)) {
    return tokens_of_completion(tokenizer, record.text("prompt"), record.text("completion"));
  }
  return tokens_of_transcript(tokenizer, ChatTemplate::of(tokenizer).render_transcript(conversation_of(record)));
}

std::string learned_of(const std::string& record, const std::string& chat_template = kChatMl) {
  const Tokenizer tokenizer = byte_tokenizer(chat_template);
  return learned(tokenizer, tokens_of(tokenizer, record));
}

TEST(Sft, TheAssistantsTurnsAndTheirEndsAreLearned) {
  EXPECT_EQ(learned_of(R"({"messages": [{"role": "system", "content": "Be <|im_end|> kind."},
      {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello é"}, {"role": "user", "content": "?"},
      {"role": "assistant", "content": "By\n"}]})"),
            "Hello é<|im_end|>|By\n<|im_end|>");
}

TEST(Sft, OtherFormsOfRecords) {
  EXPECT_EQ(learned_of(R"({"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{}"},
      {"from": "observation", "value": "b"}, {"from": "gpt", "value": "c"}], "tools": "[{\"name\": \"f\"}]"})"),
            "{}<|im_end|>|c<|im_end|>");
  EXPECT_EQ(learned_of(R"({"instruction": "Add", "input": "1 2", "output": "3"})"), "3<|im_end|>");
  EXPECT_EQ(learned_of(R"({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant",
      "content": "r"}]})"),
            "r<|im_end|>");
  EXPECT_EQ(learned_of(R"({"prompt": "1 + 1 =", "completion": " 2"})"), " 2<|im_end|>");
}

TEST(Sft, InputsOfInstructionsFollowAnEmptyLine) {
  const Tokenizer tokenizer = byte_tokenizer(kChatMl);
  const auto text = [&](const std::string& record) { return tokenizer.decode(tokens_of(tokenizer, record).ids); };
  EXPECT_EQ(
      text(R"({"instruction": "Add", "input": "1 2", "output": "3", "system": "S"})"),
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nAdd\n\n1 2<|im_end|>\n<|im_start|>assistant\n3<|im_end|>\n");
  EXPECT_EQ(text(R"({"instruction": "Say", "input": " ", "output": "3"})"),
            "<|im_start|>user\nSay<|im_end|>\n<|im_start|>assistant\n3<|im_end|>\n");
}

TEST(Sft, WithoutATemplateTheEndTokenIsAdded) {
  EXPECT_EQ(
      learned_of(R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]})", ""),
      " Yo\n<|im_end|>");
}

/// transformers' return_assistant_tokens_mask on the same template.
TEST(Sft, AgreesWithTransformersOnAWordPieceTokenizer) {
  ONDOL_REQUIRE_DATA("models/all-minilm-l6-v2/tokenizer.json");
  const Tokenizer tokenizer = load_tokenizer(test::data_path("models/all-minilm-l6-v2"));
  ChatTemplate chat(
      "{% for m in messages %}{% if m.role == 'assistant' %}[CLS] {% generation %}{{ m.content }}{{ sep_token }}"
      "{% endgeneration %}{% else %}{{ m.role }}: {{ m.content }} ; {% endif %}{% endfor %}");
  chat.set("sep_token", "[SEP]");
  const LabelledTokens tokens = tokens_of_transcript(tokenizer, chat.render_transcript(R"({"messages": [
      {"role": "user", "content": "Where is the café?"}, {"role": "assistant", "content": "Two streets on."},
      {"role": "user", "content": "Danke schön"}, {"role": "assistant", "content": "You're welcome"}]})"));
  const std::vector<int32_t> ids = {5310, 1024, 2073, 2003, 1996, 7668, 1029, 1025, 101,  2048, 4534, 2006, 1012, 102,
                                    5310, 1024, 4907, 3489, 8040, 8747, 1025, 101,  2017, 1005, 2128, 6160, 102};
  EXPECT_EQ(tokens.ids, ids);
  for (size_t t = 0; t < ids.size(); ++t) {
    const bool assistant = (t >= 9 && t <= 13) || t >= 22;
    EXPECT_EQ(tokens.labels[t], assistant ? ids[t] : kIgnoreIndex) << t;
  }
}

TEST(Sft, RecordsThatCannotBeUsedAreNamed) {
  const auto error = [](const std::string& record) { return error_of([&] { learned_of(record); }); };
  EXPECT_EQ(error(R"({"messages": [{"role": "user", "content": "Hi"}]})"),
            "cannot use example: no turn of the assistant to learn from (chat.jsonl:7)");
  EXPECT_EQ(error(R"({"messages": []})"),
            "cannot use example: field \"messages\" must be a list of messages (chat.jsonl:7)");
  EXPECT_EQ(error(R"({"messages": [{"content": "Hi"}]})"),
            "cannot use example: a message of \"messages\" has no \"role\", or it is no text (chat.jsonl:7)");
  EXPECT_EQ(error(R"({"conversations": [{"from": "martian", "value": "Hi"}]})"),
            "cannot use example: unknown role \"martian\" (chat.jsonl:7)");
  EXPECT_EQ(
      error(R"({"text": "Hi"})"),
      "cannot use example: no field \"messages\", \"conversations\", \"instruction\" or \"prompt\" (chat.jsonl:7)");
}

/// Rows as the loader gives them under these settings.
struct Loaded {
  Loaded(const std::string& lines, const std::string& settings, bool packing, int64_t length) : model(tiny_llama()) {
    objective = make_objective(settings);
    const Tokenizer tokenizer = byte_tokenizer(kChatMl);
    DataConfig config;
    config.train = {{.path = directory.write("chat.jsonl", lines)}};
    config.sequence_length = length;
    config.packing = packing;
    config.shuffle = false;
    loader.emplace(config, DataSplit::train,
                   DataContext{.record_encoder = objective->record_encoder(
                                   {.model = *model, .tokenizer = &tokenizer, .sequence_length = length})});
  }

  /// The mean loss over all targets of an epoch, and their number.
  std::pair<double, int64_t> loss() {
    const Batch batch = objective->prepare(loader->next(loader->samples_per_epoch()), {.model = *model});
    const std::vector<int64_t> counts = objective->count_targets(batch, *model);
    return {total_loss(objective->losses(*model, batch, mean_scales(counts), {})).value().item(), counts[0]};
  }

  TemporaryDirectory directory;
  std::unique_ptr<Model> model;
  std::unique_ptr<Objective> objective;
  std::optional<DataLoader> loader;
};

constexpr const char* kThree =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Hello\"}]}\n"
    "{\"messages\": [{\"role\": \"user\", \"content\": \"1+1\"}, {\"role\": \"assistant\", \"content\": \"2\"}]}\n"
    "{\"prompt\": \"a b\", \"completion\": \" c\"}\n";

TEST(Sft, PackedRowsHaveTheLossOfSeparateOnes) {
  Loaded packed(kThree, R"({"type": "sft"})", true, 128), separate(kThree, R"({"type": "sft"})", false, 128);
  EXPECT_EQ(packed.loader->samples_per_epoch(), 1);
  EXPECT_EQ(separate.loader->samples_per_epoch(), 3);
  const auto [packed_loss, packed_targets] = packed.loss();
  const auto [loss, targets] = separate.loss();
  EXPECT_EQ(targets, 6 + 2 + 3);  // "Hello", "2" and " c", each with the end token
  EXPECT_EQ(packed_targets, targets);
  EXPECT_NEAR(packed_loss, loss, 1e-5 * loss);
}

TEST(Sft, PaddingIsNoTargetThoughItIsTheEndToken) {
  Loaded loaded(kThree, R"({"type": "sft"})", false, 128);
  const Batch batch = loaded.loader->next(3);
  const std::vector<int32_t> ids = batch.input_ids.to_vector<int32_t>(), labels = batch.labels.to_vector<int32_t>();
  const std::vector<uint8_t> mask = batch.attention_mask.to_vector<uint8_t>();
  int64_t padding = 0, ends = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (mask[i] == 0) {
      EXPECT_EQ(ids[i], kTurnEnd);
      EXPECT_EQ(labels[i], kIgnoreIndex);
      ++padding;
    } else {
      ends += labels[i] == kTurnEnd ? 1 : 0;
    }
  }
  EXPECT_GT(padding, 0);
  EXPECT_EQ(ends, 3);
}

TEST(Sft, LongRowsAreCutOrLeftOut) {
  Loaded cut(kThree, R"({"type": "sft"})", false, 27);  // the first one has 28 tokens, of which the last is not learned
  EXPECT_EQ(cut.loader->samples_per_epoch(), 3);
  EXPECT_NE(cut.loader->describe().find(", 1 truncated"), std::string::npos) << cut.loader->describe();
  EXPECT_EQ(cut.loss().second, 6 + 2 + 3);
  Loaded dropped(kThree, R"({"type": "sft", "too_long": "drop"})", false, 27);
  EXPECT_EQ(dropped.loader->samples_per_epoch(), 2);
  EXPECT_NE(dropped.loader->describe().find(", 1 left out"), std::string::npos) << dropped.loader->describe();
  Loaded nothing_left(kThree, R"({"type": "sft"})", false, 20);  // only the questions of the first two remain
  EXPECT_EQ(nothing_left.loader->samples_per_epoch(), 1);
  Loaded all(kThree, R"({"type": "sft", "loss_on": "all"})", false, 128);
  EXPECT_EQ(all.loss().second, 27 + 24 + 5);
}

TEST(Sft, RefusesModelsAndSettingsThatDoNotFit) {
  const TemporaryDirectory directory;
  const auto bert = create_model(
      directory.write("config.json", R"({"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 258,
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32})"),
      DType::f32, {}, 1);
  const auto objective = make_objective(std::string(R"({"type": "sft"})"));
  const Tokenizer tokenizer = byte_tokenizer();
  EXPECT_NE(error_of([&] { objective->record_encoder({.model = *bert, .tokenizer = &tokenizer}); }).find("next token"),
            std::string::npos);
  EXPECT_NE(error_of([&] { objective->record_encoder({.model = *tiny_llama()}); }).find("tokenizer.path"),
            std::string::npos);
  EXPECT_NE(error_of([&] { make_objective(std::string(R"({"type": "sft", "loss_on": "user"})")); }).find("loss_on"),
            std::string::npos);
}

}  // namespace
}  // namespace ondol
