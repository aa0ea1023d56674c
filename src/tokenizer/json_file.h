// Reading JSON from strangers: whole files, depth at most 64, and the two large members of a tokenizer.json ("vocab"
// and "merges" of "model") taken out of the document without making a JSON tree of them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "tokenizer/json_access.h"

namespace ondol::tokenization {

/// Bytes of a tokenizer's file at most.
inline constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;

/// Throws UsageError `not valid JSON: … (file)`, also for a depth above 64 or a duplicate key.
Json parse_json(std::string_view text, const std::string& file);

struct TokenizerDocument {
  Json root;  // without model.vocab and model.merges when they are in the form below
  std::vector<std::pair<std::string, int64_t>> vocab;       // {"token": id} in file order
  std::vector<std::pair<std::string, std::string>> merges;  // "a b" or ["a", "b"]
  std::vector<std::pair<std::string, double>> pieces;       // a vocab of the form [["piece", score], …]
};
TokenizerDocument parse_tokenizer_document(std::string_view text, const std::string& file);

/// A vocab.json: one object {"token": id}.
std::vector<std::pair<std::string, int64_t>> parse_vocab_json(std::string_view text, const std::string& file);

/// "a b" split at its only space. Throws UsageError naming the merge and the place.
std::pair<std::string, std::string> split_merge(std::string_view merge, const std::string& where);

}  // namespace ondol::tokenization
