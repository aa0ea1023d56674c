// A tokenizer as the metadata of a GGUF file, with the keys that llama.cpp's converter writes.
#include <algorithm>

#include <ondol/base/error.h>

#include "base/json_reader.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/split_scanner.h"
#include "tokenizer/tokenizer_files.h"

namespace ondol::tokenization {

namespace {

constexpr int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6;
constexpr std::string_view kSpaceMark = "\u2581";

[[noreturn]] void refuse(const std::string& why, const std::string& name) {
  throw UsageError(
      concat("cannot write the tokenizer as GGUF: ", why, " (", name, ")"),
      "byte-level BPE with the splits of GPT-2, SmolLM, Llama 3 or Qwen2 can be written, and SentencePiece's BPE");
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

/// Tokens and types of ids below vocab_size.
struct Pieces {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
};

Pieces pieces_of(const Tokenizer& tokenizer, int64_t vocab_size) {
  Pieces pieces;
  for (int64_t id = 0; id < vocab_size; ++id) {
    std::string token = id < tokenizer.vocab_size() ? tokenizer.id_to_token(static_cast<int32_t>(id)) : "";
    pieces.types.push_back(token.empty() ? kUnused : kNormal);
    pieces.tokens.push_back(token.empty() ? concat("[PAD", id, "]") : std::move(token));
  }
  for (const AddedToken& token : tokenizer.added_tokens()) {
    if (token.id < vocab_size) pieces.types[static_cast<size_t>(token.id)] = token.special ? kControl : kUserDefined;
  }
  return pieces;
}

std::pair<std::string, std::string> halves_of(const Json& merge) {
  if (!merge.is_string()) return {merge.at(0).get<std::string>(), merge.at(1).get<std::string>()};
  const std::string& text = merge.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  return {text.substr(0, space), text.substr(space + 1)};
}

GgufMetadata byte_level_keys(const Json& model, const Json& pre_tokenizer, Pieces pieces, const std::string& name) {
  std::vector<std::string> merges;
  for (const Json& merge : model.at("merges")) {
    const auto [left, right] = halves_of(merge);
    merges.push_back(left + " " + right);
  }
  return {{"tokenizer.ggml.model", "gpt2"},
          {"tokenizer.ggml.pre", pre_tokenizer_name(pre_tokenizer, name)},
          {"tokenizer.ggml.tokens", std::move(pieces.tokens)},
          {"tokenizer.ggml.token_type", std::move(pieces.types)},
          {"tokenizer.ggml.merges", std::move(merges)},
          {"tokenizer.ggml.add_space_prefix", false}};
}

/// "<0x0A>", the piece of a byte.
bool is_byte_piece(const std::string& token) {
  return token.size() == 6 && token.starts_with("<0x") && token.back() == '>' &&
         token.find_first_not_of("0123456789ABCDEF", 3) == 5;
}

constexpr EncodeOptions kPlain{.add_special_tokens = false, .parse_special = false};

std::string plain_pieces(const Tokenizer& tokenizer, std::string_view text) {
  std::string pieces;
  for (const int32_t id : tokenizer.encode(text, kPlain)) pieces += tokenizer.id_to_token(id);
  return pieces;
}

/// SentencePiece's BPE joins the neighbours that make the piece of the highest score: minus the place of the piece
/// among those that merges make.
GgufMetadata sentencepiece_keys(const Tokenizer& tokenizer, const Json& model, Pieces pieces, const std::string& name) {
  const std::string marked = plain_pieces(tokenizer, "a a");
  const bool prefixed = marked.starts_with(kSpaceMark);
  if (marked != concat(prefixed ? kSpaceMark : "", "a", kSpaceMark, "a")) {
    refuse("its spaces are not those of SentencePiece", name);
  }
  std::vector<float> scores(pieces.tokens.size(), 0.0f);
  std::vector<bool> scored(pieces.tokens.size());
  float next = 0.0f;
  for (const Json& merge : model.at("merges")) {
    const auto [left, right] = halves_of(merge);
    const std::optional<int32_t> id = tokenizer.token_to_id(left + right);
    const auto at = static_cast<size_t>(id.value_or(-1));
    if (!id || at >= scores.size() || scored[at]) continue;
    scored[at] = true;
    scores[at] = next;
    next -= 1.0f;
  }
  const Json unknown = model.value("unk_token", Json());
  // What no merge makes comes last: characters, in the order of their ids.
  for (size_t id = 0; id < scores.size(); ++id) {
    if (is_byte_piece(pieces.tokens[id]) && model.value("byte_fallback", false)) {
      pieces.types[id] = kByte;
    } else if (pieces.tokens[id] == unknown) {
      pieces.types[id] = kUnknown;
    } else if (pieces.types[id] == kNormal && !scored[id]) {
      scores[id] = next;
      next -= 1.0f;
    }
  }
  return {{"tokenizer.ggml.model", "llama"},
          {"tokenizer.ggml.pre", "default"},
          {"tokenizer.ggml.tokens", std::move(pieces.tokens)},
          {"tokenizer.ggml.scores", std::move(scores)},
          {"tokenizer.ggml.token_type", std::move(pieces.types)},
          {"tokenizer.ggml.add_space_prefix", prefixed},
          {"tokenizer.ggml.remove_extra_whitespaces", plain_pieces(tokenizer, "a  a") == marked}};
}

}  // namespace

GgufMetadata write_gguf_tokenizer(const Tokenizer& tokenizer, int64_t vocab_size, const std::string& name) {
  const Tokenizer::Impl& impl = tokenizer.impl();
  const std::string text = write_tokenizer_json(impl);
  const Json document = parse_json(text, name, ErrorKind::failure, {.max_bytes = uint64_t{1} << 30});
  const Json& model = document.at("model");
  const std::string type = model.value("type", "");
  if (type != "BPE") refuse(concat("its model is ", quoted_name(type), ", not BPE"), name);
  Pieces pieces = pieces_of(tokenizer, vocab_size);
  GgufMetadata metadata = impl.model->takes_bytes()
                              ? byte_level_keys(model, impl.specs.pre_tokenizer, std::move(pieces), name)
                              : sentencepiece_keys(tokenizer, model, std::move(pieces), name);
  const std::pair<const char*, const char*> roles[] = {{"bos", "bos"},     {"eos", "eos"},       {"unk", "unknown"},
                                                       {"pad", "padding"}, {"sep", "seperator"}, {"mask", "mask"}};
  // What stands around a text is begin and end, whether or not the tokenizer has names for them.
  const std::vector<int32_t> ids = tokenizer.encode("a"), plain = tokenizer.encode("a", kPlain);
  const auto text_at = std::search(ids.begin(), ids.end(), plain.begin(), plain.end());
  const bool begun = text_at != ids.begin() && text_at != ids.end();
  const bool ended = ids.end() - text_at > static_cast<ptrdiff_t>(plain.size());
  for (const auto& [role, key] : roles) {
    std::optional<int32_t> id = tokenizer.special_token_id(role);
    if (!id && role == std::string("bos") && begun) id = ids.front();
    if (!id && role == std::string("eos") && ended) id = ids.back();
    if (id) metadata.emplace_back(concat("tokenizer.ggml.", key, "_token_id"), static_cast<uint32_t>(*id));
  }
  const auto is_role = [&](const char* role, int32_t id) {
    return tokenizer.special_token_id(role).value_or(id) == id;
  };
  metadata.emplace_back("tokenizer.ggml.add_bos_token", begun && is_role("bos", ids.front()));
  metadata.emplace_back("tokenizer.ggml.add_eos_token", ended && is_role("eos", ids.back()));
  if (!tokenizer.chat_template().empty()) {
    metadata.emplace_back("tokenizer.chat_template", tokenizer.chat_template());
  }
  metadata.emplace_back(kHuggingFaceTokenizer, text);
  return metadata;
}

}  // namespace ondol::tokenization
