#include "train/objectives/conversation.h"

#include <algorithm>
#include <map>

#include <ondol/base/ignore_index.h>

namespace ondol {

namespace {

bool is_white_space(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

std::string optional_text(const Record& record, const std::string& field) {
  return record.find(field) == nullptr ? "" : record.any_text(field);
}

Json message(const std::string& role, const Json& content) { return {{"role", role}, {"content", content}}; }

/// The role that templates know.
std::string role_of_sharegpt(const Record& record, const std::string& from) {
  static const std::map<std::string, std::string> kRoles = {
      {"system", "system"},           {"human", "user"},          {"user", "user"},
      {"gpt", "assistant"},           {"assistant", "assistant"}, {"model", "assistant"},
      {"function_call", "assistant"}, {"observation", "tool"},    {"tool", "tool"}};
  const auto role = kRoles.find(from);
  if (role == kRoles.end()) record.fail(concat("unknown role ", quoted_name(from)));
  return role->second;
}

const Json& list_of(const Record& record, const std::string& field) {
  const Json& list = record.require(field);
  if (!list.is_array() || list.empty())
    record.fail(concat("field ", record.label_of(field), " must be a list of messages"));
  return list;
}

void append_messages(const Record& record, const std::string& field, Json& messages) {
  for (const Json& each : list_of(record, field)) {
    if (!each.is_object() || !each.contains("role") || !each["role"].is_string()) {
      record.fail(concat("a message of ", record.label_of(field), " has no \"role\", or it is no text"));
    }
    if (!each.contains("content") && !each.contains("tool_calls")) {
      record.fail(concat("a message of ", record.label_of(field), " has no \"content\""));
    }
    messages.push_back(each);
  }
}

void append_sharegpt(const Record& record, Json& messages) {
  for (const Json& each : list_of(record, "conversations")) {
    const auto text = [&](const char* key) {
      if (!each.is_object() || !each.contains(key) || !each[key].is_string()) {
        record.fail(
            concat("a message of ", record.label_of("conversations"), " has no \"", key, "\", or it is no text"));
      }
      return each[key].get<std::string>();
    };
    messages.push_back(message(role_of_sharegpt(record, text("from")), text("value")));
  }
}

void append_instruction(const Record& record, Json& messages) {
  std::string task = record.text("instruction");
  const std::string input = optional_text(record, "input");
  if (!is_white_space(input)) task += "\n\n" + input;
  messages.push_back(message("user", task));
  messages.push_back(message("assistant", record.any_text("output")));
}

/// ShareGPT has its tools as JSON in a text.
Json tools_of(const Record& record) {
  const Json* tools = record.find("tools");
  if (tools == nullptr || !tools->is_string()) return tools == nullptr ? Json() : *tools;
  if (is_white_space(tools->get<std::string>())) return {};
  return parse_json(tools->get<std::string>(), concat(record.place(), ", tools"), ErrorKind::failure);
}

bool is_list(const Record& record, const std::string& field) {
  const Json* value = record.find(field);
  return value != nullptr && value->is_array();
}

/// The number of the part that a token overlaps, or -1.
int64_t part_of(const std::vector<TextRange>& parts, const TextRange& token) {
  for (size_t i = 0; i < parts.size(); ++i) {
    if (token.begin < parts[i].end && token.end > parts[i].begin) return static_cast<int64_t>(i);
  }
  return -1;
}

void append_end_token(const Tokenizer& tokenizer, LabelledTokens& tokens) {
  const std::optional<int32_t> end = tokenizer.special_token_id("eos");
  if (!end || tokens.ids.empty() || tokens.ids.back() == *end) return;
  tokens.ids.push_back(*end);
  tokens.labels.push_back(*end);
}

}  // namespace

bool LabelledTokens::has_target() const {
  return std::any_of(labels.begin() + (labels.empty() ? 0 : 1), labels.end(),
                     [](int32_t label) { return label != kIgnoreIndex; });
}

std::vector<std::string> conversation_fields() {
  return {"messages", "tools", "conversations", "system", "prompt", "completion", "instruction", "input", "output"};
}

bool is_plain_completion(const Record& record) {
  return record.find("messages") == nullptr && record.find("conversations") == nullptr &&
         record.find("prompt") != nullptr && !is_list(record, "prompt");
}

std::string conversation_of(const Record& record) {
  Json messages = Json::array();
  if (record.find("messages") != nullptr) {
    append_messages(record, "messages", messages);
  } else {
    const std::string system = optional_text(record, "system");
    if (!is_white_space(system)) messages.push_back(message("system", system));
    if (record.find("conversations") != nullptr) {
      append_sharegpt(record, messages);
    } else if (record.find("prompt") != nullptr) {
      append_messages(record, "prompt", messages);
      append_messages(record, "completion", messages);
    } else if (record.find("instruction") != nullptr) {
      append_instruction(record, messages);
    } else {
      record.fail(concat("no field ", record.label_of("messages"), ", ", record.label_of("conversations"), ", ",
                         record.label_of("instruction"), " or ", record.label_of("prompt")),
                  "data.fields says what fields are called in the files");
    }
  }
  const bool answered =
      std::any_of(messages.begin(), messages.end(), [](const Json& each) { return each["role"] == "assistant"; });
  if (!answered) record.fail("no turn of the assistant to learn from");
  Json conversation = {{"messages", std::move(messages)}};
  if (Json tools = tools_of(record); !tools.is_null()) conversation["tools"] = std::move(tools);
  return conversation.dump();
}

LabelledTokens tokens_of_transcript(const Tokenizer& tokenizer, const Transcript& transcript) {
  Encoding encoding = tokenizer.encode_detailed(transcript.text, {.add_special_tokens = false});
  LabelledTokens tokens{std::move(encoding.ids), {}};
  tokens.labels.assign(tokens.ids.size(), kIgnoreIndex);
  std::vector<size_t> last_special(transcript.assistant.size(), SIZE_MAX);  // of each part
  std::vector<int64_t> parts;
  for (size_t t = 0; t < tokens.ids.size(); ++t) {
    parts.push_back(part_of(transcript.assistant, encoding.offsets[t]));
    if (parts[t] >= 0 && tokenizer.is_special(tokens.ids[t])) last_special[static_cast<size_t>(parts[t])] = t;
  }
  for (size_t t = 0; t < tokens.ids.size(); ++t) {
    if (parts[t] < 0) continue;
    const auto part = static_cast<size_t>(parts[t]);
    const size_t end = last_special[part];
    if (end != SIZE_MAX && t > end) {
      const size_t from = encoding.offsets[end].end, to = transcript.assistant[part].end;
      if (is_white_space(std::string_view(transcript.text).substr(from, to - from))) continue;
    }
    tokens.labels[t] = tokens.ids[t];
  }
  const bool ends_openly = !transcript.assistant.empty() && last_special.back() == SIZE_MAX &&
                           transcript.assistant.back().end == transcript.text.size();
  if (ends_openly) append_end_token(tokenizer, tokens);
  return tokens;
}

LabelledTokens tokens_of_completion(const Tokenizer& tokenizer, const std::string& prompt,
                                    const std::string& completion) {
  Encoding encoding = tokenizer.encode_detailed(prompt + completion);
  LabelledTokens tokens{std::move(encoding.ids), {}};
  tokens.labels.assign(tokens.ids.size(), kIgnoreIndex);
  bool begun = false;  // the text: special tokens before it are not learned, those behind it are
  for (size_t t = 0; t < tokens.ids.size(); ++t) {
    const bool special = encoding.special_mask[t] != 0;
    begun = begun || !special;
    if (special ? begun : encoding.offsets[t].end > prompt.size()) tokens.labels[t] = tokens.ids[t];
  }
  append_end_token(tokenizer, tokens);
  return tokens;
}

}  // namespace ondol
