#include <ondol/generate/chat_template.h>

#include <algorithm>
#include <optional>

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

  jinja::Rendered render(const jinja::Dict& variables) const {
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
  return content_->render(variables).text;
}

namespace {

/// The variables of a conversation that is given as JSON.
jinja::Dict variables_of(const std::string& text) {
  parse_json(text, "conversation");  // limits and errors; the order of keys is kept by the other parser
  const auto json = nlohmann::ordered_json::parse(text);
  if (!json.is_object() || !json.contains("messages"))
    throw UsageError("a conversation is an object with \"messages\"");
  check_messages(json["messages"]);
  return to_value(json).dict("variables");
}

const jinja::Value* find(const jinja::Dict& dict, const std::string& name) {
  const auto entry = std::find_if(dict.begin(), dict.end(), [&](const auto& each) { return each.first == name; });
  return entry == dict.end() ? nullptr : &entry->second;
}

void set_variable(jinja::Dict& dict, const std::string& name, const jinja::Value& value) {
  std::erase_if(dict, [&](const auto& each) { return each.first == name; });
  dict.emplace_back(name, value);
}

}  // namespace

std::string ChatTemplate::render_json(const std::string& text) const {
  jinja::Dict variables = variables_of(text);
  if (find(variables, "add_generation_prompt") == nullptr) variables.emplace_back("add_generation_prompt", true);
  for (const auto& [name, value] : variables_) {
    if (find(variables, name) == nullptr) variables.emplace_back(name, value);
  }
  return content_->render(variables).text;
}

Transcript ChatTemplate::render_transcript(const std::string& text) const {
  jinja::Dict variables = variables_of(text);
  for (const auto& [name, value] : variables_) {
    if (find(variables, name) == nullptr) variables.emplace_back(name, value);
  }
  const jinja::List messages = find(variables, "messages")->list("messages");
  set_variable(variables, "add_generation_prompt", false);
  const jinja::Rendered whole = content_->render(variables);
  Transcript transcript{whole.text, {}};
  for (const auto& [begin, end] : whole.generated) transcript.assistant.push_back({begin, end});
  if (!transcript.assistant.empty()) return transcript;

  // Where the first `count` messages end in the whole conversation; nothing when they look otherwise there. Templates
  // look at the first message, so that one is never missing.
  const auto end_of = [&](size_t count, bool prompt) -> std::optional<size_t> {
    if (count == 0) return 0;
    set_variable(variables, "messages",
                 jinja::List(messages.begin(), messages.begin() + static_cast<ptrdiff_t>(count)));
    set_variable(variables, "add_generation_prompt", prompt);
    const std::string part = content_->render(variables).text;
    return whole.text.starts_with(part) ? std::optional(part.size()) : std::nullopt;
  };
  for (size_t i = 0; i < messages.size(); ++i) {
    if (find(messages[i].dict("a message"), "role")->string("a role") != "assistant") continue;
    std::optional<size_t> begin = end_of(i, true);
    if (!begin) begin = end_of(i, false);
    const std::optional<size_t> end = i + 1 == messages.size() ? whole.text.size() : end_of(i + 1, false);
    if (!begin || !end) {
      throw UsageError(concat("chat template: the conversation up to message ", begin ? i + 1 : i,
                              " looks otherwise when more follows, so the assistant's part is not known"),
                       "mark it with {% generation %} and {% endgeneration %} in chat_template.jinja");
    }
    transcript.assistant.push_back({*begin, *end});
  }
  return transcript;
}

}  // namespace ondol
