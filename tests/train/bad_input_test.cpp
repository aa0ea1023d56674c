// What cannot be trained on is named before the first step, and nothing is left of such a run: a table of mistakes.
#include <filesystem>

#include <gtest/gtest.h>

#include <ondol/train/trainer.h>

#include "support/temporary_directory.h"
#include "support/tiny_bert.h"

namespace ondol {
namespace {

using testing::TemporaryDirectory;

struct Mistake {
  const char* name;
  const char* model;  // of Models
  const char* file;   // whose name says what it is
  const char* content;
  const char* objective;
  const char* more;                // further sections
  int length;                      // data.sequence_length
  std::vector<std::string> parts;  // of the message
};

/// A BERT for masked words, a GPT-2 and a T5, of 20 tokens and 16 positions, with the tokenizer of the BERT.
struct Models {
  Models() {
    const auto save = [this](const std::string& name, const std::string& config) {
      save_model(*create_model(directory.write(name + ".json", config), DType::f32, {}, 3), directory / name);
    };
    save("gpt2", R"({"model_type": "gpt2", "vocab_size": 20, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2,
        "eos_token_id": 3, "pad_token_id": 0})");
    save("t5", R"({"model_type": "t5", "vocab_size": 20, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1,
        "num_heads": 2, "eos_token_id": 3, "pad_token_id": 0, "decoder_start_token_id": 0})");
    save("gpt2-large-vocabulary", R"({"model_type": "gpt2", "vocab_size": 24, "n_positions": 16, "n_embd": 16,
        "n_layer": 1, "n_head": 2})");
  }
  std::string path(const std::string& name) const { return name == "bert" ? bert.path() : directory / name; }

  testing::TinyBert bert{"BertForMaskedLM"};
  TemporaryDirectory directory;
};

constexpr const char* kText = "the cat sat on the mat\nthe dog is in the house\nthe red log\n";
constexpr const char* kQuestion =
    R"({"question": "who sat", "context": "the cat sat on the mat", "answers": {"text": ["dog"], "answer_start": [4]}})";

const Mistake kMistakes[] = {
    // an objective that does not fit the family
    {"clm_of_an_encoder", "bert", "a.txt", kText, R"({"type": "clm"})", "", 8, {"clm", "bert"}},
    {"mlm_of_a_decoder", "gpt2", "a.txt", kText, R"({"type": "mlm"})", "", 8, {"mlm", "gpt2"}},
    {"span_corruption_of_a_decoder",
     "gpt2",
     "a.txt",
     kText,
     R"({"type": "span_corruption"})",
     "",
     8,
     {"span_corruption", "gpt2"}},
    {"ul2_of_an_encoder", "bert", "a.txt", kText, R"({"type": "ul2"})", "", 8, {"ul2", "bert"}},
    {"bart_of_an_encoder", "bert", "a.txt", kText, R"({"type": "bart"})", "", 8, {"bart", "bert"}},
    {"prefix_lm_of_an_encoder", "bert", "a.txt", kText, R"({"type": "prefix_lm"})", "", 8, {"prefix_lm", "bert"}},
    {"fim_of_an_encoder", "bert", "a.txt", kText, R"({"type": "fim"})", "", 8, {"fim", "bert"}},
    {"rtd_of_a_masked_model", "bert", "a.txt", kText, R"({"type": "rtd"})", "", 8, {"rtd", "bert"}},
    {"seq2seq_of_a_decoder",
     "gpt2",
     "a.jsonl",
     R"({"source": "the cat", "target": "the dog"})",
     R"({"type": "seq2seq"})",
     "",
     8,
     {"seq2seq", "gpt2"}},
    {"sft_of_an_encoder",
     "bert",
     "a.jsonl",
     R"({"prompt": "the cat", "completion": "sat"})",
     R"({"type": "sft"})",
     "",
     8,
     {"sft", "bert"}},
    {"answers_of_a_decoder",
     "gpt2",
     "a.jsonl",
     kQuestion,
     R"({"type": "question_answering"})",
     "",
     8,
     {"gpt2", "answers"}},
    {"tags_of_an_encoder_decoder",
     "t5",
     "a.conll",
     "the O\ncat B-X\n",
     R"({"type": "token_classification"})",
     "",
     8,
     {"t5", "classifies tokens"}},
    // labels
    {"label_not_in_the_map",
     "bert",
     "a.tsv",
     "text\tlabel\nthe cat\tanimal\nthe log\tstone\n",
     R"({"type": "classification", "labels": ["animal", "thing"]})",
     "",
     8,
     {"a.tsv", "3", "\"stone\" is unknown", "animal"}},
    {"tag_not_in_the_map",
     "bert",
     "a.conll",
     "the O\ncat B-X\n",
     R"({"type": "token_classification", "labels": ["O", "B-Y"]})",
     "",
     8,
     {"a.conll", "\"B-X\" is unknown"}},
    {"value_that_is_no_number",
     "bert",
     "a.tsv",
     "text\tlabel\nthe cat\thigh\n",
     R"({"type": "regression"})",
     "",
     8,
     {"a.tsv", "2", "label"}},
    {"one_label_alone",
     "bert",
     "a.tsv",
     "text\tlabel\nthe cat\tx\nthe dog\tx\n",
     R"({"type": "classification"})",
     "",
     8,
     {"label"}},
    // answers, conversations, documents
    {"answer_is_not_there",
     "bert",
     "a.jsonl",
     kQuestion,
     R"({"type": "question_answering"})",
     "",
     8,
     {"a.jsonl", "dog"}},
    {"no_turn_of_the_assistant",
     "gpt2",
     "a.jsonl",
     R"({"messages": [{"role": "user", "content": "the cat"}]})",
     R"({"type": "sft"})",
     "",
     8,
     {"a.jsonl", "1", "assistant"}},
    {"empty_text",
     "bert",
     "a.jsonl",
     "{\"text\": \"the cat\", \"label\": \"x\"}\n{\"text\": \"\", \"label\": \"y\"}\n",
     R"({"type": "classification"})",
     "",
     8,
     {"a.jsonl", "2", "text"}},
    {"empty_corpus", "bert", "a.txt", "\n\n", R"({"type": "mlm"})", "", 8, {"a.txt"}},
    {"longer_than_the_model", "bert", "a.txt", kText, R"({"type": "mlm"})", "", 64, {"64", "16"}},
    {"longer_than_the_decoder", "gpt2", "a.txt", kText, R"({"type": "clm"})", "", 64, {"64", "16"}},
    // teachers, adapters
    {"another_vocabulary",
     "gpt2",
     "a.txt",
     kText,
     R"({"type": "distillation", "teacher": {"path": "LARGE"}, "inner": {"type": "clm"}, "cosine_weight": 0})",
     "",
     8,
     {"vocabular", "24", "20"}},
    {"lora_target",
     "gpt2",
     "a.txt",
     kText,
     R"({"type": "clm"})",
     R"("lora": {"targets": ["q_proj"]}, )",
     8,
     {"lora target \"q_proj\" matches no linear layer"}},
};

class BadInput : public ::testing::TestWithParam<Mistake> {
 protected:
  static void SetUpTestSuite() { models_ = std::make_unique<Models>(); }
  static void TearDownTestSuite() { models_.reset(); }
  static inline std::unique_ptr<Models> models_;
};

INSTANTIATE_TEST_SUITE_P(Trainer, BadInput, ::testing::ValuesIn(kMistakes),
                         [](const auto& row) { return std::string(row.param.name); });

TEST_P(BadInput, IsNamedBeforeTheFirstStep) {
  const Mistake& mistake = GetParam();
  const TemporaryDirectory directory;
  const std::string data = directory.write(mistake.file, mistake.content);
  std::string objective = mistake.objective;
  if (const size_t place = objective.find("LARGE"); place != std::string::npos) {
    objective.replace(place, 5, models_->path("gpt2-large-vocabulary"));
  }
  const std::string config =
      concat(R"({"model": {"from": ")", models_->path(mistake.model), R"("}, "tokenizer": {"path": ")",
             models_->bert.path(), R"("}, "data": {"train": [{"path": ")", data, R"("}], "sequence_length": )",
             mistake.length, R"(, "document_separator": "line", "document_mask": false}, "objective": )", objective,
             ", ", mistake.more, R"("train": {"steps": 1, "batch_size": 1}})");
  const std::string output = directory / "run";
  try {
    Trainer(TrainConfig::from_json(config), {.output = output, .device = "cpu"}).run();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    for (const std::string& part : mistake.parts) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << " in: " << error.what();
    }
  }
  EXPECT_FALSE(std::filesystem::exists(output));
}

}  // namespace
}  // namespace ondol
