#include "tokenizer/byte_level_bpe.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/bpe_merge.h"
#include "tokenizer/byte_alphabet.h"

namespace ondol::tokenization {

ByteLevelBpe::ByteLevelBpe(Config config) : config_(std::move(config)) {
  const StringTable& vocabulary = config_.vocabulary;
  if (!config_.unk_token.empty()) {
    unk_id_ = vocabulary.find(config_.unk_token);
    if (unk_id_ < 0) {
      throw UsageError(concat("unk_token \"", config_.unk_token, "\" is not in the vocabulary (", config_.source, ")"));
    }
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    const int32_t id = vocabulary.find(to_byte_alphabet({&text, 1}));
    byte_ids_[byte] = id >= 0 ? id : unk_id_;
  }
  merges_.reserve(config_.merges.size());
  std::string product;
  for (const BpeMerge& merge : config_.merges) {
    product = vocabulary.text(merge.left);
    product += vocabulary.text(merge.right);
    const int32_t id = vocabulary.find(product);
    if (id < 0) {
      throw UsageError(concat("merge of \"", vocabulary.text(merge.left), "\" and \"", vocabulary.text(merge.right),
                              "\" gives \"", product, "\", which is not in the vocabulary (", config_.source, ")"));
    }
    merges_.insert(merge.left, merge.right, PairTable::make_value(merge.rank, id));
  }
  byte_pairs_.assign(size_t{1} << 16, PairTable::kNone);
  for (size_t pair = 0; pair < byte_pairs_.size(); ++pair) {
    const int32_t left = byte_ids_[pair >> 8], right = byte_ids_[pair & 255];
    if (left >= 0 && right >= 0) byte_pairs_[pair] = merges_.find(left, right);
  }
  if (config_.ignore_merges) {
    std::string bytes;
    whole_tokens_.reserve(vocabulary.count());
    for (int32_t id = 0; id < vocabulary.id_limit(); ++id) {
      if (vocabulary.contains(id) && from_byte_alphabet(vocabulary.text(id), bytes)) whole_tokens_.add(id, bytes);
    }
  }
}

int32_t ByteLevelBpe::byte_id(uint8_t byte) const {
  const int32_t id = byte_ids_[byte];
  if (id < 0) {
    const char text = static_cast<char>(byte);
    throw Error(concat("cannot encode: byte ", int{byte}, " (\"", to_byte_alphabet({&text, 1}),
                       "\") has no token and the model no unk_token (", config_.source, ")"));
  }
  return id;
}

void ByteLevelBpe::encode(std::string_view piece, TokenSink& out) const {
  const size_t before = out.ids.size();
  const int32_t whole = config_.ignore_merges ? whole_tokens_.find(piece) : -1;
  if (whole >= 0) {
    out.ids.push_back(whole);
  } else if (piece.size() <= kMaxScannedSymbols) {
    merge_short(piece, out.ids);
  } else {
    merge_long(piece, out.ids);
  }
  if (out.ranges == nullptr) return;
  size_t begin = 0;
  for (size_t i = before; i < out.ids.size(); ++i) {
    // The unknown token stands for one byte; every other token has a character for each of its bytes.
    const std::string_view text = out.ids[i] == unk_id_ ? "?" : config_.vocabulary.text(out.ids[i]);
    const auto length = static_cast<size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xc0u) != 0x80u; }));
    out.ranges->push_back({begin, begin + length});
    begin += length;
  }
}

void ByteLevelBpe::merge_short(std::string_view piece, std::vector<int32_t>& ids) const {
  int32_t symbol[kMaxScannedSymbols];
  PairTable::Value value[kMaxScannedSymbols];
  const size_t size = piece.size();
  for (size_t i = 0; i < size; ++i) symbol[i] = byte_id(static_cast<uint8_t>(piece[i]));
  for (size_t i = 0; i + 1 < size; ++i) {
    value[i] = rank_of_bytes(static_cast<uint8_t>(piece[i]), static_cast<uint8_t>(piece[i + 1]));
  }
  const size_t count = merge_by_scanning(merges_, symbol, value, nullptr, size);
  ids.insert(ids.end(), symbol, symbol + count);
}

void ByteLevelBpe::merge_long(std::string_view piece, std::vector<int32_t>& ids) const {
  std::vector<HeapSymbol> symbols(piece.size());
  for (size_t i = 0; i < piece.size(); ++i) {
    const auto byte = static_cast<uint8_t>(piece[i]);
    const bool last = i + 1 == piece.size();
    symbols[i].id = byte_id(byte);
    symbols[i].value = last ? PairTable::kNone : rank_of_bytes(byte, static_cast<uint8_t>(piece[i + 1]));
  }
  merge_with_heap(merges_, symbols);
  for (int32_t at = 0; at >= 0; at = symbols[static_cast<size_t>(at)].next) {
    ids.push_back(symbols[static_cast<size_t>(at)].id);
  }
}

}  // namespace ondol::tokenization
