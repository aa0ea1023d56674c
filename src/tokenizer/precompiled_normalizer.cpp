#include "tokenizer/precompiled_normalizer.h"

#include <bit>
#include <cstring>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/base64.h"
#include "tokenizer/regex_splitter.h"

namespace ondol::tokenization {

namespace {

static_assert(std::endian::native == std::endian::little);

// A unit of a darts-clone trie.
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1u) != 0; }
uint32_t leaf_value(uint32_t unit) { return unit & 0x7fffffffu; }
uint32_t label(uint32_t unit) { return unit & 0x800000ffu; }
uint32_t offset(uint32_t unit) { return (unit >> 10) << ((unit & 0x200u) >> 6); }

/// Characters that never join a grapheme cluster with what precedes them.
bool stands_alone(uint32_t c) {
  return c < 0x300 || (c >= 0x370 && c < 0x483) || (c >= 0x48a && c < 0x530) || (c >= 0x1e00 && c < 0x200b) ||
         (c >= 0x2010 && c < 0x2028) || (c >= 0x2070 && c < 0x20d0) || (c >= 0x3041 && c < 0x3097) ||
         (c >= 0x30a1 && c < 0x30fb) || (c >= 0x3400 && c < 0xa000) || (c >= 0xac00 && c < 0xd7a4) ||
         (c >= 0xff01 && c < 0xff9e);
}

class Precompiled : public Rewriter {
 public:
  Precompiled(CharacterMap map, bool longest)
      : map_(std::move(map)), longest_(longest), cluster_("\\X", "grapheme clusters") {}

  bool rewrite(std::string_view text, TextWriter& out) const override {
    if (map_.empty()) return false;
    for (size_t i = 0; i < text.size();) {
      size_t end = i + decode_code_point(text, i).length;
      if (longest_) {
        const CharacterMap::Match match = map_.longest(text.substr(i));
        if (match.length > 0) end = i + match.length;
        match.length > 0 ? replace(text, {i, end}, match.replacement, out)
                         : out.append(text.substr(i, end - i), {i, end});
      } else if (is_boundary(text, i, end)) {
        rewrite_characters(text, {i, end}, out);
      } else {
        for (size_t last = i; !is_boundary(text, last, end);) {
          last = end;
          end += decode_code_point(text, end).length;
        }
        rewrite_clusters(text, i, end, out);
      }
      i = end;
    }
    return true;
  }

 private:
  /// True when a cluster surely ends at `end`, behind the character at `last`.
  static bool is_boundary(std::string_view text, size_t last, size_t end) {
    if (end == text.size()) return true;
    const uint32_t before = decode_code_point(text, last).value, after = decode_code_point(text, end).value;
    return stands_alone(before) && stands_alone(after) && !(before == '\r' && after == '\n');
  }

  void rewrite_clusters(std::string_view text, size_t begin, size_t end, TextWriter& out) const {
    size_t done = begin;
    cluster_.for_each_match(text.substr(begin, end - begin), [&](size_t from, size_t to) {
      rewrite_characters(text, {done, begin + from}, out);  // invalid bytes
      const Origin cluster{begin + from, begin + to};
      const CharacterMap::Match match =
          to - from < 6 ? map_.shortest(text.substr(cluster.begin, to - from)) : CharacterMap::Match{};
      if (match.length > 0) {
        replace(text, cluster, match.replacement, out);
      } else {
        rewrite_characters(text, cluster, out);
      }
      done = cluster.end;
    });
    rewrite_characters(text, {done, end}, out);
  }

  void rewrite_characters(std::string_view text, Origin range, TextWriter& out) const {
    for (size_t i = range.begin; i < range.end;) {
      const Origin at{i, i + decode_code_point(text, i).length};
      const std::string_view character = text.substr(at.begin, at.end - at.begin);
      const CharacterMap::Match match = map_.shortest(character);
      if (match.length > 0) {
        replace(text, at, match.replacement, out);
      } else {
        out.append(character, at);
      }
      i = at.end;
    }
  }

  /// Each new character comes from the old one in its place, the surplus from the last one.
  static void replace(std::string_view text, Origin range, std::string_view replacement, TextWriter& out) {
    if (!out.tracks()) return out.append(replacement, range);
    Origin from{range.begin, range.begin + decode_code_point(text, range.begin).length};
    for (size_t i = 0; i < replacement.size();) {
      const size_t length = decode_code_point(replacement, i).length;
      out.append(replacement.substr(i, length), from);
      if (from.end < range.end) from = {from.end, from.end + decode_code_point(text, from.end).length};
      i += length;
    }
  }

  CharacterMap map_;
  bool longest_;
  Regex cluster_;
};

}  // namespace

CharacterMap::CharacterMap(std::string_view bytes, const std::string& where) {
  if (bytes.empty()) return;
  uint32_t trie_bytes = 0;
  if (bytes.size() > 4) std::memcpy(&trie_bytes, bytes.data(), 4);
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes >= bytes.size() - 4) {
    throw UsageError(
        concat("the character map has ", bytes.size(), " bytes and a trie of ", trie_bytes, " (", where, ")"));
  }
  units_.resize(trie_bytes / 4);
  std::memcpy(units_.data(), bytes.data() + 4, trie_bytes);
  replacements_ = bytes.substr(4 + trie_bytes);
  if (replacements_.back() != '\0') replacements_ += '\0';
}

CharacterMap::Match CharacterMap::match(std::string_view text, bool first) const {
  Match best;
  if (units_.empty()) return best;
  size_t node = offset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    // A damaged trie may point anywhere.
    if (node >= units_.size() || label(units_[node]) != byte) break;
    const uint32_t unit = units_[node];
    node ^= offset(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size() || leaf_value(units_[node]) >= replacements_.size()) break;
    best = {i + 1, replacements_.c_str() + leaf_value(units_[node])};
    if (first) break;
  }
  return best;
}

std::unique_ptr<Rewriter> make_precompiled_normalizer(const Json& spec, const std::string& where) {
  const std::string text = string_at(spec, "precompiled_charsmap", "", where);
  std::string bytes;
  if (!text.empty() && !decode_base64(text, bytes)) {
    throw UsageError(concat("\"precompiled_charsmap\" is not base64 (", where, ")"));
  }
  const std::string match = string_at(spec, "match", "shortest", where);
  if (match != "shortest" && match != "longest") {
    throw UsageError(concat("\"match\" must be shortest or longest, not \"", match, "\" (", where, ")"));
  }
  return std::make_unique<Precompiled>(CharacterMap(bytes, where), match == "longest");
}

Json precompiled_spec(std::string_view character_map) {
  return {{"type", "Precompiled"}, {"precompiled_charsmap", encode_base64(character_map)}, {"match", "longest"}};
}

}  // namespace ondol::tokenization
