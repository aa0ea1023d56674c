// A tokenizer as the metadata of a GGUF file, with the keys that llama.cpp's converter writes.
#include <ondol/base/error.h>

#include "base/json_reader.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/split_scanner.h"
#include "tokenizer/tokenizer_files.h"

namespace ondol::tokenization {

namespace {

constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;

[[noreturn]] void refuse(const std::string& why, const std::string& name) {
  throw UsageError(concat("cannot write the tokenizer as GGUF: ", why, " (", name, ")"),
                   "byte-level BPE with the splits of GPT-2, SmolLM, Llama 3 or Qwen2 can be written");
}

/// The name that llama.cpp has for a pre-tokenizer.
std::string pre_tokenizer_name(const Json& spec, const std::string& name) {
  const std::vector<Json> stages = spec.value("type", "") == "Sequence"
                                       ? spec.at("pretokenizers").get<std::vector<Json>>()
                                       : std::vector<Json>{spec};
  bool digits = false;
  std::optional<SplitPattern> pattern;
  for (const Json& stage : stages) {
    const std::string type = stage.value("type", "");
    if (type == "Digits" && stage.value("individual_digits", false)) {
      digits = true;
    } else if (type == "ByteLevel") {
      if (stage.value("use_regex", true)) pattern = SplitPattern::gpt2;
    } else if (type == "Split" && stage.at("pattern").contains("Regex")) {
      pattern = recognise_split_pattern(stage["pattern"]["Regex"].get_ref<const std::string&>());
      if (!pattern) refuse("its split pattern is not a known one", name);
    } else {
      refuse(concat("pre-tokenizer ", quoted_name(type)), name);
    }
  }
  if (pattern == SplitPattern::gpt2) return digits ? "smollm" : "gpt-2";
  if (digits || !pattern) refuse("its pre-tokenizer is not a known one", name);
  return *pattern == SplitPattern::qwen2 ? "qwen2" : "llama-bpe";
}

}  // namespace

GgufMetadata write_gguf_tokenizer(const Tokenizer& tokenizer, int64_t vocab_size, const std::string& name) {
  const Tokenizer::Impl& impl = tokenizer.impl();
  const std::string text = write_tokenizer_json(impl);
  const Json document = parse_json(text, name, ErrorKind::failure, {.max_bytes = uint64_t{1} << 30});
  const Json& model = document.at("model");
  if (model.value("type", "") != "BPE" || !impl.model->takes_bytes()) {
    refuse(concat("its model is ", quoted_name(model.value("type", "")), ", not byte-level BPE"), name);
  }
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> types;
  for (int64_t id = 0; id < vocab_size; ++id) {
    std::string token = id < tokenizer.vocab_size() ? tokenizer.id_to_token(static_cast<int32_t>(id)) : "";
    types.push_back(token.empty() ? kUnused : kNormal);
    tokens.push_back(token.empty() ? concat("[PAD", id, "]") : std::move(token));
  }
  for (const AddedToken& token : tokenizer.added_tokens()) {
    if (token.id < vocab_size) types[static_cast<size_t>(token.id)] = token.special ? kControl : kUserDefined;
  }
  for (const Json& merge : model.at("merges")) {
    merges.push_back(merge.is_string() ? merge.get<std::string>()
                                       : merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
  }
  GgufMetadata metadata = {{"tokenizer.ggml.model", "gpt2"},
                           {"tokenizer.ggml.pre", pre_tokenizer_name(impl.specs.pre_tokenizer, name)},
                           {"tokenizer.ggml.tokens", std::move(tokens)},
                           {"tokenizer.ggml.token_type", std::move(types)},
                           {"tokenizer.ggml.merges", std::move(merges)}};
  const std::pair<const char*, const char*> roles[] = {{"bos", "bos"},     {"eos", "eos"},       {"unk", "unknown"},
                                                       {"pad", "padding"}, {"sep", "seperator"}, {"mask", "mask"}};
  for (const auto& [role, key] : roles) {
    if (const std::optional<int32_t> id = tokenizer.special_token_id(role)) {
      metadata.emplace_back(concat("tokenizer.ggml.", key, "_token_id"), static_cast<uint32_t>(*id));
    }
  }
  const std::vector<int32_t> ids = tokenizer.encode("a");
  const auto added = [&](const char* role, int32_t id) { return tokenizer.special_token_id(role) == id; };
  metadata.emplace_back("tokenizer.ggml.add_bos_token", !ids.empty() && added("bos", ids.front()));
  metadata.emplace_back("tokenizer.ggml.add_eos_token", ids.size() > 1 && added("eos", ids.back()));
  metadata.emplace_back("tokenizer.ggml.add_space_prefix", false);
  if (!tokenizer.chat_template().empty()) {
    metadata.emplace_back("tokenizer.chat_template", tokenizer.chat_template());
  }
  metadata.emplace_back(kHuggingFaceTokenizer, text);
  return metadata;
}

}  // namespace ondol::tokenization
