#include <ondol/generate/chat_template.h>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "base/json_reader.h"
#include "generate/jinja/evaluator.h"

namespace ondol {

namespace {

jinja::Value to_value(const nlohmann::ordered_json& json) {
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::null:
      return jinja::Value::none();
    case nlohmann::ordered_json::value_t::boolean:
      return json.get<bool>();
    case nlohmann::ordered_json::value_t::number_integer:
    case nlohmann::ordered_json::value_t::number_unsigned:
      return json.get<int64_t>();
    case nlohmann::ordered_json::value_t::number_float:
      return json.get<double>();
    case nlohmann::ordered_json::value_t::string:
      return json.get<std::string>();
    case nlohmann::ordered_json::value_t::array: {
      jinja::List list;
      for (const auto& item : json) list.push_back(to_value(item));
      return list;
    }
    default:
      break;
  }
  jinja::Dict dict;
  for (const auto& [key, item] : json.items()) dict.emplace_back(key, to_value(item));
  return dict;
}

/// Templates read roles and contents without asking; a wrong kind of value would show as a fault of the template.
void check_messages(const nlohmann::ordered_json& messages) {
  if (!messages.is_array() || messages.empty()) throw UsageError("\"messages\" must be a list with a message or more");
  for (const auto& message : messages) {
    if (!message.is_object()) throw UsageError("a message must be an object with \"role\" and \"content\"");
    const auto role = message.find("role");
    if (role == message.end() || !role->is_string()) throw UsageError("a message has no \"role\", or it is no text");
  }
}

}  // namespace

struct ChatTemplate::Content {
  std::string name;
  jinja::Block block;

  [[noreturn]] void fail(const std::string& what, int line) const {
    throw UsageError(concat("chat template: ", what, " (", name, " line ", line, ")"));
  }

  std::string render(const jinja::Dict& variables) const {
    try {
      return jinja::render(block, variables);
    } catch (const jinja::RenderError& error) {
      fail(error.what, error.line);
    }
  }
};

ChatTemplate::ChatTemplate(const std::string& source, const std::string& name) {
  auto content = std::make_shared<Content>();
  content->name = name;
  try {
    content->block = jinja::parse_template(source);
  } catch (const jinja::ParseError& error) {
    content->fail(error.what, error.line);
  }
  content_ = std::move(content);
}

const std::string& ChatTemplate::plain() {
  static const std::string source =
      "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";
  return source;
}

ChatTemplate ChatTemplate::of(const Tokenizer& tokenizer) {
  const std::string& source = tokenizer.chat_template();
  ChatTemplate chat(source.empty() ? plain() : source);
  for (const char* role : {"bos", "eos", "unk", "pad", "cls", "sep", "mask"}) {
    const std::optional<std::string> token = tokenizer.special_token(role);
    if (token) chat.set(concat(role, "_token"), *token);
  }
  return chat;
}

void ChatTemplate::set(const std::string& variable, const std::string& text) {
  variables_.emplace_back(variable, text);
}

std::string ChatTemplate::render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const {
  jinja::List list;
  for (const ChatMessage& message : messages) {
    list.emplace_back(jinja::Dict{{"role", message.role}, {"content", message.content}});
  }
  jinja::Dict variables = {{"messages", std::move(list)}, {"add_generation_prompt", add_generation_prompt}};
  for (const auto& [name, text] : variables_) variables.emplace_back(name, text);
  return content_->render(variables);
}

std::string ChatTemplate::render_json(const std::string& text) const {
  parse_json(text, "conversation");  // limits and errors; the order of keys is kept by the other parser
  const auto json = nlohmann::ordered_json::parse(text);
  if (!json.is_object() || !json.contains("messages"))
    throw UsageError("a conversation is an object with \"messages\"");
  check_messages(json["messages"]);
  const jinja::Value given = to_value(json);
  jinja::Dict variables = given.dict("variables");
  if (!json.contains("add_generation_prompt")) variables.emplace_back("add_generation_prompt", true);
  for (const auto& [name, value] : variables_) {
    if (!json.contains(name)) variables.emplace_back(name, value);
  }
  return content_->render(variables);
}

}  // namespace ondol
