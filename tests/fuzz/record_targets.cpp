// Structured examples of data files, conversations in them, and adapter directories.
#include <cmath>

#include <ondol/base/file.h>
#include <ondol/base/ignore_index.h>
#include <ondol/models/lora.h>

#include "data/record_reader.h"
#include "fuzz/targets.h"
#include "support/byte_tokenizer.h"
#include "train/objectives/conversation.h"

namespace ondol::fuzz {

namespace {

constexpr const char* kForms[] = {"csv", "tsv", "jsonl", "json", "conll", "parallel"};
constexpr char kSecondFile = '\x01';  // parallel files: what follows it is the second one

std::vector<Json> read_records(const RecordFile& file, const RecordSettings& settings) {
  std::vector<Json> values;
  RecordReader reader(file, settings);
  int64_t last = 0;
  for (Record record; reader.next(record);) {
    promise(record.number() > last, "records do not count up");
    last = record.number();
    promise(record.place().starts_with(file.path), "a place without its file");
    promise(record.value().is_object(), "a record that is no object");
    for (const char* field : {"text", "label", "words", "a.b", ""}) {
      const auto ask = [&](auto&& read) { accepts([&] { read(); }); };
      ask([&] { promise(!record.text(field).empty(), "an empty text"); });
      ask([&] { promise(std::isfinite(record.number(field)), "a number that is not finite"); });
      ask([&] { promise(!record.name(field).empty(), "an empty name"); });
      ask([&] { record.names(field); });
      ask([&] { record.texts(field); });
    }
    values.push_back(record.value());
  }
  return values;
}

std::string quoted(const std::string& field) {
  std::string out = "\"";
  for (const char c : field) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

/// A table of these rows, every field quoted.
std::string csv_of(const std::vector<Json>& rows) {
  std::string text;
  for (const auto& [name, value] : rows.front().items()) text += (text.empty() ? "" : ",") + quoted(name);
  for (const Json& row : rows) {
    std::string line;
    for (const auto& [name, value] : row.items()) line += (line.empty() ? "" : ",") + quoted(value.get<std::string>());
    text += "\r\n" + line;
  }
  return text;
}

}  // namespace

/// The first byte picks the form of the file and whether columns are named, the rest is the file.
void run_records(std::string_view input) {
  if (input.empty()) return;
  const auto flags = static_cast<unsigned char>(input[0]);
  const std::string form = kForms[(flags & 7) % std::size(kForms)];
  std::string_view text = input.substr(1);
  RecordFile file;
  if (form == "parallel") {
    const size_t cut = std::min(text.find(kSecondFile), text.size());
    file.target_path = scratch_file("target.txt", text.substr(std::min(cut + 1, text.size())));
    text = text.substr(0, cut);
  } else {
    file.format = form;
  }
  file.path = scratch_file("examples", text);
  RecordSettings settings;
  if ((flags & 8) != 0) settings.columns = {"text", "label"};
  if ((flags & 16) != 0) settings.fields = {{"text", "source"}, {"label", "a.b"}};
  std::vector<Json> records;
  if (!accepts([&] { records = read_records(file, settings); })) return;
  promise(read_records(file, settings) == records, "the second reading has other records");
  if (form != "csv" || records.empty()) return;
  const RecordFile again{.path = scratch_file("again.csv", csv_of(records))};
  promise(read_records(again, {}) == records, "a table that was written reads back otherwise");
}

std::vector<std::string> records_seeds() {
  using namespace std::string_literals;
  const std::string table = "text,label\n\"a \"\"b\"\", c\r\nd\",1\r\n\n e ,\"\"\n";
  const std::string lines =
      "{\"text\": \"one\", \"label\": 3}\n\n{\"a\": {\"b\": [1.5, null]}, \"words\": [\"x\", 7], \"text\": "
      "\"\\u00e9\"}\r\n";
  return {"0"s + table,
          "8"s + table,
          "\x10"s + table,
          "0\xef\xbb\xbf" + table,
          "1text\tlabel\na \"b\tc\r\n\nd\t\n"s,
          "2"s + lines,
          "3[{\"text\": \"one\"}, {\"label\": 1e300, \"words\": [\"a\", \"b\"]}]"s,
          "3{\"data\": []}"s,
          "4-DOCSTART- O\n\n# text = a\nEU B-ORG\nrejects O\n\nGerman\tX\tB-MISC\n"s,
          "5one\ntwo\r\n\x01\xef\xbb\xbf"
          "eins\nzwei\n"s,
          "5one\ntwo\n\x01"
          "eins\n"s};
}

/// One row of a file of conversations, as supervised fine-tuning takes it.
void run_chat_row(std::string_view input) {
  static const Tokenizer tokenizer = testing::byte_tokenizer(testing::kChatMl);
  static const ChatTemplate chat = ChatTemplate::of(tokenizer);
  accepts([&] {
    const Record record(parse_json(std::string(input), "row", ErrorKind::failure, {.max_depth = 64}),
                        std::make_shared<const std::string>("chat.jsonl"), 1, true, nullptr);
    if (!record.value().is_object()) return;
    const LabelledTokens tokens =
        is_plain_completion(record) ? tokens_of_completion(tokenizer, record.text("prompt"), record.text("completion"))
                                    : tokens_of_transcript(tokenizer, chat.render_transcript(conversation_of(record)));
    promise(tokens.ids.size() == tokens.labels.size(), "tokens without a label");
    for (size_t i = 0; i < tokens.ids.size(); ++i) {
      promise(tokens.ids[i] >= 0 && tokens.ids[i] < tokenizer.vocab_size(), "an id outside the vocabulary");
      promise(tokens.labels[i] == kIgnoreIndex || tokens.labels[i] == tokens.ids[i], "a label of another token");
    }
    promise(!tokens.ids.empty(), "a conversation without tokens");
  });
}

std::vector<std::string> chat_row_seeds() {
  return {R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi \u00e9"},)"
          R"( {"role": "assistant", "content": "Hello<|im_end|>"}, {"role": "user", "content": ""},)"
          R"( {"role": "assistant", "content": "\ud55c"}], "tools": [{"name": "f"}]})",
          R"({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s",)"
          R"( "tools": "[{\"name\": \"f\"}]"})",
          R"({"prompt": "one two", "completion": "three"})",
          R"({"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]})",
          R"({"instruction": "Add.", "input": "1 2", "output": "3", "system": ""})",
          R"({"messages": [{"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f"}}]}]})",
          R"({"messages": [{"role": "user", "content": "a"}]})",
          R"([1])"};
}

/// An adapter directory: after an even first byte adapter_config.json, after an odd one head.json.
void run_adapter_config(std::string_view input) {
  if (input.empty()) return;
  static const std::string directory = [] {
    const std::string path = scratch_directory() + "/adapter";
    make_directories(path);
    const std::string module = "base_model.model.layer.0.q_proj";
    write_safetensors(path + "/adapter_model.safetensors",
                      {{module + ".lora_A.weight", Tensor::zeros({2, 4}, DType::f32)},
                       {module + ".lora_B.weight", Tensor::zeros({4, 2}, DType::f32)}});
    return path;
  }();
  const bool head = (input[0] & 1) != 0;
  const std::string text(input.substr(1));
  scratch_file("adapter/adapter_config.json", head ? R"({"peft_type": "LORA", "r": 2})" : text);
  scratch_file("adapter/head.json", head ? text : R"({"head": "token_classification", "labels": ["O"]})");
  accepts([&] {
    const AdapterFile file(directory);
    const LoraConfig& config = file.config();
    promise(config.rank == 2 && std::isfinite(config.scale()) && config.scale() > 0.0, "a scale that cannot be");
    promise(config.dropout >= 0.0 && config.dropout < 1.0, "a dropout that cannot be");
    promise(config.targets == std::vector<std::string>{"layer.0.q_proj"}, "other targets than the file has");
    accepts([&] { promise(!file.base().empty(), "a base without a name"); });
    promise(file.head().has_value(), "a head that is not found");
  });
}

std::vector<std::string> adapter_config_seeds() {
  return {
      R"(0{"peft_type": "LORA", "base_model_name_or_path": "base", "r": 2, "lora_alpha": 16, "lora_dropout": 0.05,)"
      R"( "use_rslora": true, "target_modules": ["q_proj"], "modules_to_save": null, "bias": "none",)"
      R"( "fan_in_fan_out": false, "rank_pattern": {}, "alpha_pattern": {}, "task_type": "CAUSAL_LM"})",
      R"(0{"peft_type": "LORA", "r": 2, "use_dora": true})",
      R"(0{"peft_type": "IA3"})",
      R"(0{"peft_type": "LORA", "r": 2, "base_model_name_or_path": ")" + std::string(300, 'x') + "\"}",
      R"(1{"head": "sequence_classification", "labels": ["no", "yes"], "problem_type": "single_label_classification"})",
      R"(1{"head": "token_classification", "labels": ["O"], "problem_type": null})",
      R"(1{"head": 3})"};
}

}  // namespace ondol::fuzz
