// tokenizer.json of Hugging Face tokenizers.
#include <algorithm>

#include <ondol/base/error.h>

#include "tokenizer/byte_level_bpe.h"
#include "tokenizer/character_bpe.h"
#include "tokenizer/json_file.h"
#include "tokenizer/tokenizer_files.h"
#include "tokenizer/unigram.h"
#include "tokenizer/wordpiece.h"

namespace ondol::tokenization {

namespace {

Json member(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? Json() : *found;
}

std::unique_ptr<Model> make_model(TokenizerDocument& document, const std::vector<AddedToken>& added_tokens,
                                  const std::string& name) {
  const auto spec = document.root.find("model");
  if (spec == document.root.end() || !spec->is_object())
    throw UsageError(concat("\"model\" must be an object (", name, ")"));
  const std::string where = name + ", model";
  // Files of old versions do not name the type; merges are what only BPE has.
  const std::string type = string_at(*spec, "type",
                                     !document.merges.empty()                      ? "BPE"
                                     : spec->contains("continuing_subword_prefix") ? "WordPiece"
                                                                                   : "",
                                     where);
  const auto vocabulary = [&] { return make_vocabulary(document.vocab, where + ".vocab"); };
  if (type == "BPE") {
    const bool byte_level = ends_in_byte_level(member(document.root, "pre_tokenizer"));
    return (byte_level ? make_byte_level_bpe : make_character_bpe)(*spec, vocabulary(), document.merges, name);
  }
  if (type == "Unigram" || (type.empty() && !document.pieces.empty()))
    return make_unigram(*spec, document.pieces, added_tokens, name);
  if (type == "WordPiece") return make_wordpiece(*spec, vocabulary(), name);
  throw UsageError(concat("model type \"", type, "\" is not supported (", where, ")"),
                   "supported: BPE, Unigram, WordPiece");
}

/// Hugging Face tokenizers number the added tokens that the vocabulary lacks one after another, whatever id the file
/// gives them. Where that would change an id, all of them go into the vocabulary.
std::vector<AddedToken> tokens_for_vocabulary(const Tokenizer::Impl& impl) {
  const StringTable& vocabulary = impl.model->vocabulary();
  std::vector<AddedToken> missing;
  auto next = static_cast<int64_t>(vocabulary.count());
  bool in_order = true;
  for (const AddedToken& token : impl.added_tokens) {
    if (!vocabulary.contains(token.id)) {
      in_order = in_order && token.id == next;
      missing.push_back(token);
    }
    next = std::max<int64_t>(next, token.id + 1);
  }
  return in_order ? std::vector<AddedToken>() : missing;
}

}  // namespace

AddedToken read_added_token(const Json& spec, int64_t id, const std::string& where) {
  AddedToken token;
  token.content = string_at(spec, "content", where);
  if (id < 0 || id > INT32_MAX - 1) throw UsageError(concat("token id ", id, " is out of range (", where, ")"));
  if (token.content.empty()) throw UsageError(concat("\"content\" must not be empty (", where, ")"));
  token.id = static_cast<int32_t>(id);
  token.single_word = bool_at(spec, "single_word", false, where);
  token.lstrip = bool_at(spec, "lstrip", false, where);
  token.rstrip = bool_at(spec, "rstrip", false, where);
  token.special = bool_at(spec, "special", false, where);
  token.normalized = bool_at(spec, "normalized", !token.special, where);
  return token;
}

StringTable make_vocabulary(const std::vector<std::pair<std::string, int64_t>>& entries, const std::string& where) {
  if (entries.empty()) throw UsageError(concat("the vocabulary is empty (", where, ")"));
  // Holes are fine; the limit keeps a wrong id from asking for gigabytes.
  const int64_t limit = static_cast<int64_t>(entries.size()) * 4 + (int64_t{1} << 20);
  StringTable table;
  table.reserve(entries.size());
  for (const auto& [token, id] : entries) {
    if (id < 0 || id >= limit) {
      throw UsageError(concat("id ", id, " of token \"", token, "\" is out of range (", where, ")"));
    }
    if (table.add(static_cast<int32_t>(id), token)) continue;
    if (table.contains(static_cast<int32_t>(id))) {
      throw UsageError(concat("id ", id, " is given to \"", table.text(static_cast<int32_t>(id)), "\" and to \"", token,
                              "\" (", where, ")"));
    }
    throw UsageError(concat("token \"", token, "\" appears twice (", where, ")"));
  }
  return table;
}

std::shared_ptr<const Tokenizer::Impl> read_tokenizer_json(std::string_view text, TokenizerConfig config,
                                                           const std::string& name) {
  TokenizerDocument document = parse_tokenizer_document(text, name);
  const Json& root = document.root;
  if (!root.is_object()) throw UsageError(concat("an object is expected (", name, ")"));
  TokenizerSpecs specs{member(root, "normalizer"), member(root, "pre_tokenizer"), member(root, "post_processor"),
                       member(root, "decoder"),    member(root, "truncation"),    member(root, "padding")};
  std::vector<AddedToken> added_tokens;
  if (root.contains("added_tokens") && !root["added_tokens"].is_null()) {
    for (const Json& token : array_at(root, "added_tokens", name)) {
      const std::string where = concat(name, ", added_tokens[", added_tokens.size(), "]");
      added_tokens.push_back(read_added_token(token, integer_at(token, "id", where), where));
    }
  }
  std::unique_ptr<Model> model = make_model(document, added_tokens, name);
  return assemble_tokenizer(std::move(specs), std::move(config), std::move(model), std::move(added_tokens), name);
}

std::string write_tokenizer_json(const Tokenizer::Impl& impl) {
  Json added = Json::array();
  for (const AddedToken& token : impl.added_tokens) {
    added.push_back({{"id", token.id},
                     {"content", token.content},
                     {"single_word", token.single_word},
                     {"lstrip", token.lstrip},
                     {"rstrip", token.rstrip},
                     {"normalized", token.normalized},
                     {"special", token.special}});
  }
  std::string out = "{\"version\":\"1.0\"";
  const auto part = [&](const char* name, const Json& spec) { out += concat(",\n\"", name, "\":", spec.dump()); };
  Json truncation = impl.specs.truncation;
  if (truncation.is_object() && impl.config.max_seq_length > 0) truncation["max_length"] = impl.config.max_seq_length;
  part("truncation", truncation);
  part("padding", impl.specs.padding);
  out += ",\n\"added_tokens\":";
  out += added.dump(1);
  part("normalizer", impl.specs.normalizer);
  part("pre_tokenizer", impl.specs.pre_tokenizer);
  part("post_processor", impl.specs.post_processor);
  part("decoder", impl.specs.decoder);
  out += ",\n\"model\":";
  out += impl.model->to_json(tokens_for_vocabulary(impl));
  out += "}\n";
  return out;
}

Json byte_level_spec(bool add_prefix_space, bool use_regex) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json bos_eos_template(const std::string& bos, int32_t bos_id, const std::string& eos, int32_t eos_id) {
  if (bos.empty() && eos.empty()) return nullptr;
  const auto sequence = [](const char* id, int type) { return Json{{"Sequence", {{"id", id}, {"type_id", type}}}}; };
  const auto token = [](const std::string& id, int type) {
    return Json{{"SpecialToken", {{"id", id}, {"type_id", type}}}};
  };
  Json single = Json::array(), pair = Json::array(), tokens = Json::object();
  for (const int type : {0, 1}) {
    Json part = Json::array();
    if (!bos.empty()) part.push_back(token(bos, type));
    part.push_back(sequence(type == 0 ? "A" : "B", type));
    if (!eos.empty()) part.push_back(token(eos, type));
    if (type == 0) single = part;
    pair.insert(pair.end(), part.begin(), part.end());
  }
  const auto define = [&](const std::string& content, int32_t id) {
    if (!content.empty())
      tokens[content] = {{"id", content}, {"ids", Json::array({id})}, {"tokens", Json::array({content})}};
  };
  define(bos, bos_id);
  define(eos, eos_id);
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

}  // namespace ondol::tokenization
