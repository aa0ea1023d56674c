// tokenizer_config.json: the roles of special tokens, the chat template.
#include <algorithm>
#include <charconv>

#include <ondol/base/error.h>

#include "tokenizer/json_file.h"
#include "tokenizer/tokenizer_files.h"

namespace ondol::tokenization {

namespace {

constexpr const char* kRoles[] = {"bos", "eos", "unk", "pad", "cls", "sep", "mask"};

std::string read_chat_template(const Json& root, const std::string& name) {
  const auto found = root.find("chat_template");
  if (found == root.end() || found->is_null()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array()) {
    for (const Json& item : *found) {
      if (string_at(item, "name", name + ", chat_template") == "default") {
        return string_at(item, "template", name + ", chat_template");
      }
    }
    return "";
  }
  throw UsageError(concat("\"chat_template\" must be a string or a list of named templates (", name, ")"));
}

}  // namespace

TokenizerConfig read_tokenizer_config(std::string_view text, const std::string& name) {
  const Json root = parse_json(text, name);
  if (!root.is_object()) throw UsageError(concat("an object is expected (", name, ")"));
  TokenizerConfig config;
  for (const char* role : kRoles) {
    const std::string key = concat(role, "_token");
    const auto found = root.find(key);
    if (found == root.end() || found->is_null() || *found == false) continue;
    const std::string token =
        found->is_object() ? string_at(*found, "content", concat(name, ", ", key)) : string_at(root, key.c_str(), name);
    if (!token.empty()) config.special_tokens[role] = token;
  }
  config.add_bos_token = bool_at(root, "add_bos_token", false, name);
  config.add_eos_token = bool_at(root, "add_eos_token", false, name);
  config.add_prefix_space = bool_at(root, "add_prefix_space", false, name);
  const auto optional_bool = [&](const char* key) {
    const auto found = root.find(key);
    return found == root.end() || found->is_null() ? std::nullopt : std::optional(bool_at(root, key, false, name));
  };
  config.lowercase = optional_bool("do_lower_case");
  config.strip_accents = optional_bool("strip_accents");
  config.chinese_characters = optional_bool("tokenize_chinese_chars");
  config.tokenizer_class = string_at(root, "tokenizer_class", "", name);
  if (const auto length = root.find("model_max_length"); length != root.end()) config.model_max_length = *length;
  if (const auto added = root.find("added_tokens_decoder"); added != root.end() && !added->is_null()) {
    if (!added->is_object()) throw UsageError(concat("\"added_tokens_decoder\" must be an object (", name, ")"));
    for (const auto& [key, spec] : added->items()) {
      int64_t id = -1;
      const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
      const std::string where = concat(name, ", added_tokens_decoder[\"", key, "\"]");
      if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size()) {
        throw UsageError(concat("the key must be a token id (", where, ")"));
      }
      config.added_tokens.push_back(read_added_token(spec, id, where));
    }
  }
  config.chat_template = read_chat_template(root, name);
  return config;
}

std::vector<AddedToken> tokens_of_roles(const StringTable& vocabulary, const TokenizerConfig& config,
                                        bool mask_takes_space) {
  std::vector<AddedToken> tokens = config.added_tokens;
  for (const auto& [role, content] : config.special_tokens) {
    const int32_t id = vocabulary.find(content);
    const bool known = std::any_of(tokens.begin(), tokens.end(),
                                   [&, &text = content](const AddedToken& token) { return token.content == text; });
    if (id < 0 || known) continue;
    AddedToken token;
    token.id = id;
    token.content = content;
    token.special = true;
    token.lstrip = mask_takes_space && role == "mask";
    tokens.push_back(token);
  }
  return tokens;
}

std::string write_tokenizer_config(const TokenizerConfig& config) {
  Json root = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  for (const auto& [role, token] : config.special_tokens) root[role + "_token"] = token;
  if (!config.model_max_length.is_null()) root["model_max_length"] = config.model_max_length;
  return root.dump(2) + "\n";
}

}  // namespace ondol::tokenization
