// Puts the components of a tokenizer together and checks them against each other.
#include <algorithm>

#include <ondol/base/error.h>

#include "tokenizer/split_scanner.h"
#include "tokenizer/tokenizer_files.h"

namespace ondol {

using tokenization::AddedTokenMatcher;

/// The search tree of added tokens is built as deep as the longest one.
constexpr size_t kMaxAddedTokenBytes = 1024;

void Tokenizer::Impl::finish(const std::string& name) {
  const tokenization::StringTable& vocabulary = model->vocabulary();
  const std::string where = name + ", added_tokens";
  std::sort(added_tokens.begin(), added_tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  const int64_t limit =
      (int64_t{vocabulary.id_limit()} + static_cast<int64_t>(added_tokens.size())) * 4 + (int64_t{1} << 20);
  vocab_size = vocabulary.id_limit();
  for (const AddedToken& token : added_tokens) {
    if (token.content.empty() || token.content.size() > kMaxAddedTokenBytes) {
      throw UsageError(concat("the token with id ", token.id, " has ", token.content.size(), " bytes, 1 to ",
                              kMaxAddedTokenBytes, " are expected (", where, ")"));
    }
    if (token.id >= limit)
      throw UsageError(concat("id ", token.id, " of \"", token.content, "\" is out of range (", where, ")"));
    vocab_size = std::max<int64_t>(vocab_size, token.id + 1);
    const int32_t known = vocabulary.find(token.content);
    if (known >= 0 && known != token.id) {
      throw UsageError(
          concat("\"", token.content, "\" has id ", token.id, " here and ", known, " in the vocabulary (", where, ")"));
    }
    if (known < 0 && vocabulary.contains(token.id)) {
      throw UsageError(concat("id ", token.id, " is given to \"", vocabulary.text(token.id), "\" and to \"",
                              token.content, "\" (", where, ")"));
    }
    if (!added_vocabulary.add(token.id, token.content)) {
      throw UsageError(concat("\"", token.content, "\" with id ", token.id, " appears twice (", where, ")"));
    }
  }
  special.assign(static_cast<size_t>(vocab_size), false);
  std::vector<AddedTokenMatcher::Pattern> raw, normalized, raw_plain, normalized_plain;
  for (const AddedToken& token : added_tokens) {
    special[static_cast<size_t>(token.id)] = token.special;
    std::string text = token.content;
    if (token.normalized && normalizer) {
      tokenization::NormalizerBuffers buffers;
      text = std::string(normalizer->normalize(token.content, buffers));
      if (text.empty()) continue;
    }
    (token.normalized ? normalized : raw).push_back({text, token});
    if (!token.special) (token.normalized ? normalized_plain : raw_plain).push_back({text, token});
  }
  raw_matcher = AddedTokenMatcher(std::move(raw));
  normalized_matcher = AddedTokenMatcher(std::move(normalized));
  raw_plain_matcher = AddedTokenMatcher(std::move(raw_plain));
  normalized_plain_matcher = AddedTokenMatcher(std::move(normalized_plain));
}

namespace tokenization {

namespace {

/// add_bos_token / add_eos_token count when the tokenizer itself has no template.
void apply_bos_eos(const TokenizerConfig& config, const Model& model, const std::vector<AddedToken>& added, Json& spec,
                   const std::string& name) {
  if (!config.add_bos_token && !config.add_eos_token) return;
  if (!spec.is_null() && string_at(spec, "type", "", name + ", post_processor") != "ByteLevel") return;
  const auto token = [&](bool wanted, const char* role) -> std::pair<std::string, int32_t> {
    if (!wanted) return {"", -1};
    const auto found = config.special_tokens.find(role);
    if (found == config.special_tokens.end()) {
      throw UsageError(concat("\"add_", role, "_token\" is set without a \"", role, "_token\" (", name, ")"));
    }
    for (const AddedToken& candidate : added) {
      if (candidate.content == found->second) return {found->second, candidate.id};
    }
    const int32_t id = model.vocabulary().find(found->second);
    if (id < 0) throw UsageError(concat(role, "_token \"", found->second, "\" is not in the vocabulary (", name, ")"));
    return {found->second, id};
  };
  const auto [bos, bos_id] = token(config.add_bos_token, "bos");
  const auto [eos, eos_id] = token(config.add_eos_token, "eos");
  spec = bos_eos_template(bos, bos_id, eos, eos_id);
}

}  // namespace

std::shared_ptr<const Tokenizer::Impl> assemble_tokenizer(TokenizerSpecs specs, TokenizerConfig config,
                                                          std::unique_ptr<Model> model,
                                                          std::vector<AddedToken> added_tokens,
                                                          const std::string& name) {
  auto impl = std::make_shared<Tokenizer::Impl>();
  apply_bos_eos(config, *model, added_tokens, specs.post_processor, name);
  impl->normalizer = make_normalizer(specs.normalizer, name);
  impl->pre_tokenizer = make_pre_tokenizer(specs.pre_tokenizer, name, model->takes_bytes());
  impl->decoder = make_decoder(specs.decoder, name);
  impl->truncation = read_truncation(specs.truncation, name);
  impl->padding = read_padding(specs.padding, name);
  impl->specs = std::move(specs);
  impl->config = std::move(config);
  impl->model = std::move(model);
  impl->added_tokens = std::move(added_tokens);
  impl->finish(name);
  impl->post_processor = make_post_processor(impl->specs.post_processor, impl->vocab_size, name);
  return impl;
}

Json split_pattern_spec(const std::vector<std::string>& patterns, bool individual_digits, bool add_prefix_space) {
  Json stages = Json::array();
  if (individual_digits) stages.push_back({{"type", "Digits"}, {"individual_digits", true}});
  bool use_regex = false;
  for (const std::string& pattern : patterns) {
    if (pattern == "gpt2" && patterns.size() == 1) {
      use_regex = true;
      break;
    }
    const std::string regex = pattern == "gpt2"     ? split_pattern_regex(SplitPattern::gpt2)
                              : pattern == "cl100k" ? split_pattern_regex(SplitPattern::cl100k)
                              : pattern == "qwen2"  ? split_pattern_regex(SplitPattern::qwen2)
                                                    : pattern;
    stages.push_back({{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}});
  }
  stages.push_back(byte_level_spec(add_prefix_space, use_regex));
  return stages.size() == 1 ? stages[0] : Json{{"type", "Sequence"}, {"pretokenizers", stages}};
}

}  // namespace tokenization

}  // namespace ondol
