#include "tokenizer/character_bpe.h"

#include <algorithm>

#include <ondol/base/error.h>

#include "tokenizer/bpe_merge.h"
#include "tokenizer/utf8.h"

namespace ondol::tokenization {

namespace {

constexpr std::string_view kMarker = "\u2581";

}  // namespace

std::string byte_token(uint8_t byte) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  return {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
}

/// Tokens on their way out: unknown characters wait for their neighbours.
struct CharacterBpe::Output {
  TokenSink& sink;
  bool fuse;
  int32_t unk_id;
  size_t at = 0;  // where in the piece the next symbol begins
  size_t unknown_begin = 0;
  bool pending = false;

  void add(int32_t id, size_t length) {
    flush();
    sink.add(id, at, at + length);
    at += length;
  }
  void add_unknown(size_t length) {
    if (pending && !fuse) flush();
    if (!pending) unknown_begin = at;
    pending = unk_id >= 0;
    at += length;
  }
  void flush() {
    if (pending) sink.add(unk_id, unknown_begin, at);
    pending = false;
  }
};

CharacterBpe::CharacterBpe(Config config) : config_(std::move(config)) {
  const StringTable& vocabulary = config_.vocabulary;
  if (!config_.unk_token.empty()) {
    unk_id_ = vocabulary.find(config_.unk_token);
    if (unk_id_ < 0) {
      throw UsageError(concat("unk_token \"", config_.unk_token, "\" is not in the vocabulary (", config_.source, ")"));
    }
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = config_.byte_fallback ? vocabulary.find(byte_token(static_cast<uint8_t>(byte))) : -1;
  }
  plain_characters_ = config_.prefix.empty() && config_.suffix.empty();
  for (const std::string& character : config_.extra_characters) {
    extra_.add(vocabulary.id_limit() + static_cast<int32_t>(extra_.count()), character);
  }
  first_user_defined_ = vocabulary.id_limit() + static_cast<int32_t>(config_.extra_characters.size());
  std::vector<std::pair<std::string_view, int32_t>> keys;
  for (size_t i = 0; i < config_.user_defined.size(); ++i) {
    keys.emplace_back(vocabulary.text(config_.user_defined[i]), first_user_defined_ + static_cast<int32_t>(i));
  }
  user_defined_ = Trie(std::move(keys));
  for (const auto& [id, parts] : config_.unused) {
    parts_.resize(std::max(parts_.size(), static_cast<size_t>(id) + 1), {-1, -1});
    parts_[static_cast<size_t>(id)] = parts;
  }
  for (size_t c = 0; c < ascii_ids_.size(); ++c) {
    const char text = static_cast<char>(c);
    ascii_ids_[c] = character_id({&text, 1}, true, false);
  }
  merges_.reserve(config_.merges.size());
  const auto text_of = [&](int32_t id) { return id < vocabulary.id_limit() ? vocabulary.text(id) : extra_.text(id); };
  std::string product;
  for (const BpeMerge& merge : config_.merges) {
    std::string_view right = text_of(merge.right);
    if (right.starts_with(config_.prefix)) right.remove_prefix(config_.prefix.size());
    product = text_of(merge.left);
    product += right;
    const int32_t id = vocabulary.find(product);
    if (id < 0) {
      throw UsageError(concat("merge of \"", text_of(merge.left), "\" and \"", text_of(merge.right), "\" gives \"",
                              product, "\", which is not in the vocabulary (", config_.source, ")"));
    }
    merges_.insert(merge.left, merge.right, PairTable::make_value(merge.rank, id));
  }
  if (words_are_independent()) marker_ = kMarker;
}

/// True when no token reaches over the beginning of a run of markers.
bool CharacterBpe::words_are_independent() const {
  if (!plain_characters_ || config_.ignore_merges) return false;
  // An unknown marker might be fused with what precedes it.
  const int32_t marker = character_id(kMarker, true, false);
  if (marker < 0 || marker >= config_.vocabulary.id_limit()) return false;
  const auto reaches_over = [&](std::string_view text) {
    for (size_t at = text.find(kMarker, 1); at != text.npos; at = text.find(kMarker, at + 1)) {
      if (at < kMarker.size() || text.substr(at - kMarker.size(), kMarker.size()) != kMarker) return true;
    }
    return false;
  };
  for (int32_t id = 0; id < config_.vocabulary.id_limit(); ++id) {
    if (reaches_over(config_.vocabulary.text(id))) return false;
  }
  return true;
}

int32_t CharacterBpe::character_id(std::string_view character, bool first, bool last) const {
  int32_t id = -1;
  if (plain_characters_) {
    id = config_.vocabulary.find(character);
  } else {
    std::string spelled = first ? "" : config_.prefix;
    spelled += character;
    if (last) spelled += config_.suffix;
    id = config_.vocabulary.find(spelled);
  }
  if (id >= 0 && !config_.plain.empty() && config_.plain[static_cast<size_t>(id)] == 0) id = -1;
  return id < 0 && extra_.count() > 0 ? extra_.find(character) : id;
}

void CharacterBpe::split_characters(std::string_view piece, std::vector<Symbol>& symbols) const {
  const bool has_user_defined = !config_.user_defined.empty();
  for (size_t i = 0; i < piece.size();) {
    if (has_user_defined) {
      Trie::Node node = Trie::kRoot;
      Symbol longest{-1, 0};
      for (size_t k = i; k < piece.size(); ++k) {
        node = user_defined_.child(node, static_cast<uint8_t>(piece[k]));
        if (node == Trie::kRoot) break;
        if (user_defined_.value(node) >= 0) longest = {user_defined_.value(node), static_cast<uint32_t>(k + 1 - i)};
      }
      if (longest.length > 0) {
        symbols.push_back(longest);
        i += longest.length;
        continue;
      }
    }
    const auto byte = static_cast<uint8_t>(piece[i]);
    if (byte < 0x80 && plain_characters_) {
      symbols.push_back({ascii_ids_[byte], 1});
      ++i;
      continue;
    }
    const uint32_t length = decode_code_point(piece, i).length;
    symbols.push_back({character_id(piece.substr(i, length), i == 0, i + length == piece.size()), length});
    i += length;
  }
}

void CharacterBpe::emit(int32_t id, size_t length, std::string_view piece, Output& output) const {
  if (id >= first_user_defined_) {
    return output.add(config_.user_defined[static_cast<size_t>(id - first_user_defined_)], length);
  }
  if (id >= 0 && static_cast<size_t>(id) < parts_.size() && parts_[static_cast<size_t>(id)].first >= 0) {
    const auto [left, right] = parts_[static_cast<size_t>(id)];
    const StringTable& table = left < config_.vocabulary.id_limit() ? config_.vocabulary : extra_;
    const size_t left_length = table.text(left).size();
    emit(left, left_length, piece, output);
    return emit(right, length - left_length, piece, output);
  }
  if (id >= 0 && id < config_.vocabulary.id_limit()) return output.add(id, length);
  // Unknown: its bytes when there is a token for each of them.
  const std::string_view text = piece.substr(output.at, length);
  const bool bytes =
      std::all_of(text.begin(), text.end(), [&](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; });
  if (!bytes) return output.add_unknown(length);
  for (const char c : text) output.add(byte_ids_[static_cast<uint8_t>(c)], 1);
}

void CharacterBpe::encode(std::string_view piece, TokenSink& out) const {
  if (config_.ignore_merges) {
    if (const int32_t id = config_.vocabulary.find(piece); id >= 0) return out.add(id, 0, piece.size());
  }
  thread_local std::vector<Symbol> symbols;
  symbols.clear();
  split_characters(piece, symbols);
  Output output{out, config_.fuse_unk, unk_id_};
  const auto pair_value = [&](size_t i) {
    const bool known = symbols[i].id >= 0 && symbols[i + 1].id >= 0;
    return known ? merges_.find(symbols[i].id, symbols[i + 1].id) : PairTable::kNone;
  };
  if (symbols.size() <= kMaxScannedSymbols) {
    int32_t id[kMaxScannedSymbols];
    uint32_t length[kMaxScannedSymbols];
    PairTable::Value value[kMaxScannedSymbols];
    for (size_t i = 0; i < symbols.size(); ++i) {
      id[i] = symbols[i].id;
      length[i] = symbols[i].length;
      if (i + 1 < symbols.size()) value[i] = pair_value(i);
    }
    const size_t count = merge_by_scanning(merges_, id, value, length, symbols.size());
    for (size_t i = 0; i < count; ++i) emit(id[i], length[i], piece, output);
  } else {
    std::vector<HeapSymbol> list(symbols.size());
    for (size_t i = 0; i < symbols.size(); ++i) {
      list[i].id = symbols[i].id;
      list[i].length = symbols[i].length;
      list[i].value = i + 1 < symbols.size() ? pair_value(i) : PairTable::kNone;
    }
    merge_with_heap(merges_, list);
    for (int32_t at = 0; at >= 0; at = list[static_cast<size_t>(at)].next) {
      emit(list[static_cast<size_t>(at)].id, list[static_cast<size_t>(at)].length, piece, output);
    }
  }
  output.flush();
}

}  // namespace ondol::tokenization
