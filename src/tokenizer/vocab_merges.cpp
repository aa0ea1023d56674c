// vocab.json + merges.txt, the form GPT-2 and RoBERTa were published in, and tokenizers given by their parts.
#include <algorithm>

#include <ondol/base/error.h>
#include <ondol/base/file.h>

#include "tokenizer/byte_level_bpe.h"
#include "tokenizer/json_file.h"
#include "tokenizer/tokenizer_files.h"

namespace ondol {

namespace tokenization {

namespace {

std::vector<std::pair<std::string, std::string>> read_merges(std::string_view text, const std::string& path) {
  std::vector<std::pair<std::string, std::string>> merges;
  size_t line_number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || (line_number == 1 && line.starts_with("#version"))) continue;
    merges.push_back(split_merge(line, concat(path, ", line ", line_number)));
  }
  return merges;
}

/// Roles that the models published without a tokenizer_config.json give to tokens of their vocabulary.
void add_conventional_roles(const StringTable& vocabulary, TokenizerConfig& config) {
  if (!config.special_tokens.empty()) return;
  if (vocabulary.find("<s>") >= 0 && vocabulary.find("</s>") >= 0) {
    const std::pair<const char*, const char*> roles[] = {{"bos", "<s>"},    {"eos", "</s>"}, {"unk", "<unk>"},
                                                         {"pad", "<pad>"},  {"cls", "<s>"},  {"sep", "</s>"},
                                                         {"mask", "<mask>"}};
    for (const auto& [role, token] : roles) {
      if (vocabulary.find(token) >= 0) config.special_tokens[role] = token;
    }
  } else if (vocabulary.find("<|endoftext|>") >= 0) {
    for (const char* role : {"bos", "eos", "unk"}) config.special_tokens[role] = "<|endoftext|>";
  }
}

}  // namespace

std::shared_ptr<const Tokenizer::Impl> read_vocab_and_merges(const std::string& vocab_path,
                                                             const std::string& merges_path, TokenizerConfig config) {
  StringTable vocabulary =
      make_vocabulary(parse_vocab_json(read_file(vocab_path, kMaxFileBytes), vocab_path), vocab_path);
  add_conventional_roles(vocabulary, config);
  std::vector<AddedToken> added_tokens = tokens_of_roles(vocabulary, config, /*mask_takes_space=*/true);
  TokenizerSpecs specs;
  specs.pre_tokenizer = byte_level_spec(config.add_prefix_space, true);
  specs.decoder = byte_level_spec(true, true);
  // RoBERTa, BART and their like put <s> … </s> around a text; GPT-2 has no cls and sep.
  const auto cls = config.special_tokens.find("cls"), sep = config.special_tokens.find("sep");
  if (cls != config.special_tokens.end() && sep != config.special_tokens.end()) {
    const int32_t cls_id = vocabulary.find(cls->second), sep_id = vocabulary.find(sep->second);
    if (cls_id >= 0 && sep_id >= 0) {
      specs.post_processor = {{"type", "RobertaProcessing"},
                              {"sep", Json::array({sep->second, sep_id})},
                              {"cls", Json::array({cls->second, cls_id})},
                              {"trim_offsets", true},
                              {"add_prefix_space", config.add_prefix_space}};
    }
  }
  const auto merges = read_merges(read_file(merges_path, kMaxFileBytes), merges_path);
  std::unique_ptr<Model> model = make_byte_level_bpe(Json::object(), std::move(vocabulary), merges, merges_path);
  return assemble_tokenizer(std::move(specs), std::move(config), std::move(model), std::move(added_tokens), vocab_path);
}

}  // namespace tokenization

Tokenizer make_byte_level_bpe_tokenizer(const ByteLevelBpeParts& parts, const std::string& name) {
  using namespace tokenization;
  std::vector<std::pair<std::string, int64_t>> entries;
  for (const std::string& token : parts.tokens) entries.emplace_back(token, static_cast<int64_t>(entries.size()));
  std::vector<std::pair<std::string, std::string>> merges;
  for (const std::string& merge : parts.merges) {
    merges.push_back(split_merge(merge, concat(name, ", merges[", merges.size(), "]")));
  }
  TokenizerSpecs specs;
  specs.pre_tokenizer = split_pattern_spec(parts.split_patterns, parts.individual_digits, parts.add_prefix_space);
  specs.decoder = byte_level_spec(true, true);
  TokenizerConfig config;
  config.special_tokens = parts.special_tokens;
  config.add_bos_token = parts.add_bos;
  config.add_eos_token = parts.add_eos;
  config.chat_template = parts.chat_template;
  const Json options = {{"ignore_merges", parts.ignore_merges}};
  std::unique_ptr<Model> model =
      make_byte_level_bpe(options, make_vocabulary(entries, name + ", tokens"), merges, name);
  return Tokenizer(assemble_tokenizer(std::move(specs), std::move(config), std::move(model), parts.added_tokens, name));
}

}  // namespace ondol
