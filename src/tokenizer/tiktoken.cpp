// Rank files of tiktoken: a line "base64(token bytes) rank" each. Two tokens may merge when their concatenation is a
// token, whose rank is the rank of the merge; a piece that is a token is never split.
#include <algorithm>
#include <charconv>

#include <ondol/base/error.h>

#include "tokenizer/base64.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/byte_level_bpe.h"
#include "tokenizer/tokenizer_files.h"

namespace ondol::tokenization {

namespace {

constexpr size_t kMaxTokenBytes = 1024;

StringTable read_ranks(std::string_view text, const std::string& name) {
  StringTable tokens;
  std::string bytes;
  const auto lines = static_cast<int64_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  tokens.reserve(static_cast<size_t>(lines));
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty()) continue;
    const std::string where = concat(name, ", line ", number);
    const size_t space = line.find(' ');
    int64_t rank = -1;
    if (space == line.npos || !decode_base64(line.substr(0, space), bytes) ||
        std::from_chars(line.data() + space + 1, line.data() + line.size(), rank).ptr != line.data() + line.size()) {
      throw UsageError(concat("not a line \"base64 rank\" of a tiktoken file (", where, ")"));
    }
    if (rank < 0 || rank >= lines * 4 + (int64_t{1} << 20))
      throw UsageError(concat("rank ", rank, " is out of range (", where, ")"));
    if (bytes.size() > kMaxTokenBytes)
      throw UsageError(concat("a token of ", bytes.size(), " bytes is too long (", where, ")"));
    if (!tokens.add(static_cast<int32_t>(rank), bytes))
      throw UsageError(concat("token or rank appears twice (", where, ")"));
  }
  return tokens;
}

/// Every way to make a token of two others, in the order of transformers' converter: by rank, then by the two ids.
std::vector<BpeMerge> all_merges(const StringTable& tokens) {
  std::vector<BpeMerge> merges;
  for (int32_t id = 0; id < tokens.id_limit(); ++id) {
    const std::string_view text = tokens.text(id);
    const auto first = static_cast<ptrdiff_t>(merges.size());
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const int32_t left = tokens.find(text.substr(0, cut));
      const int32_t right = left < 0 ? -1 : tokens.find(text.substr(cut));
      if (right >= 0) merges.push_back({left, right, static_cast<uint32_t>(id)});
    }
    std::sort(merges.begin() + first, merges.end(), [](const BpeMerge& a, const BpeMerge& b) {
      return std::pair(a.left, a.right) < std::pair(b.left, b.right);
    });
  }
  return merges;
}

struct KnownEncoding {
  size_t num_ranks;
  const char* pattern;
  std::vector<std::pair<int32_t, std::string>> special_tokens;
  const char *bos, *eos;
};

std::vector<std::pair<int32_t, std::string>> llama3_special_tokens() {
  const std::pair<int32_t, const char*> named[] = {
      {128000, "<|begin_of_text|>"},   {128001, "<|end_of_text|>"},   {128004, "<|finetune_right_pad_id|>"},
      {128006, "<|start_header_id|>"}, {128007, "<|end_header_id|>"}, {128008, "<|eom_id|>"},
      {128009, "<|eot_id|>"},          {128010, "<|python_tag|>"}};
  std::vector<std::pair<int32_t, std::string>> tokens(std::begin(named), std::end(named));
  int reserved = 0;
  for (int32_t id = 128000; id < 128256; ++id) {
    const bool taken =
        std::any_of(std::begin(named), std::end(named), [id](const auto& token) { return token.first == id; });
    if (!taken) tokens.emplace_back(id, concat("<|reserved_special_token_", reserved++, "|>"));
  }
  return tokens;
}

/// The encodings that are recognised by their number of ranks.
const KnownEncoding* known_encoding(size_t num_ranks) {
  static const KnownEncoding encodings[] = {
      {50256, "gpt2", {{50256, "<|endoftext|>"}}, "", "<|endoftext|>"},
      {100256,
       "cl100k",
       {{100257, "<|endoftext|>"},
        {100258, "<|fim_prefix|>"},
        {100259, "<|fim_middle|>"},
        {100260, "<|fim_suffix|>"},
        {100276, "<|endofprompt|>"}},
       "",
       "<|endoftext|>"},
      {128000, "cl100k", llama3_special_tokens(), "<|begin_of_text|>", "<|end_of_text|>"}};
  for (const KnownEncoding& encoding : encodings) {
    if (encoding.num_ranks == num_ranks) return &encoding;
  }
  return nullptr;
}

}  // namespace

std::shared_ptr<const Tokenizer::Impl> read_tiktoken(std::string_view text, const std::string& split_pattern,
                                                     TokenizerConfig config, const std::string& name) {
  const StringTable tokens = read_ranks(text, name);
  if (tokens.count() == 0) throw UsageError(concat("the file holds no ranks (", name, ")"));
  const KnownEncoding* known = known_encoding(tokens.count());
  if (split_pattern.empty() && known == nullptr) {
    throw UsageError(
        concat("the split pattern of a tiktoken file with ", tokens.count(), " ranks is not known (", name, ")"),
        "give it: gpt2, cl100k, qwen2 or a regular expression");
  }
  ByteLevelBpe::Config model;
  model.ignore_merges = true;
  model.source = name;
  model.merges = all_merges(tokens);
  model.vocabulary.reserve(tokens.count());
  for (int32_t id = 0; id < tokens.id_limit(); ++id) {
    if (tokens.contains(id)) model.vocabulary.add(id, to_byte_alphabet(tokens.text(id)));
  }
  std::vector<AddedToken> added_tokens = config.added_tokens;
  if (added_tokens.empty() && known != nullptr) {
    for (const auto& [id, content] : known->special_tokens) {
      AddedToken token;
      token.id = id;
      token.content = content;
      token.special = true;
      added_tokens.push_back(token);
    }
    if (config.special_tokens.empty()) {
      if (*known->bos) {
        config.special_tokens["bos"] = known->bos;
        config.add_bos_token = true;
      }
      config.special_tokens["eos"] = known->eos;
    }
  }
  TokenizerSpecs specs;
  specs.pre_tokenizer = split_pattern_spec({split_pattern.empty() ? known->pattern : split_pattern}, false, false);
  specs.decoder = byte_level_spec(true, true);
  return assemble_tokenizer(std::move(specs), std::move(config), std::make_unique<ByteLevelBpe>(std::move(model)),
                            std::move(added_tokens), name);
}

}  // namespace ondol::tokenization
