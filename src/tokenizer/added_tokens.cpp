#include "tokenizer/added_tokens.h"

#include <algorithm>

#include "tokenizer/unicode.h"

namespace ondol::tokenization {

namespace {

/// The code point that ends at `end` (end > 0).
CodePoint code_point_before(std::string_view text, size_t end) {
  for (size_t length = 1; length <= 4 && length <= end; ++length) {
    const CodePoint c = decode_code_point(text.substr(0, end), end - length);
    if (c.value != kInvalidCodePoint && c.length == length) return c;
  }
  return {kInvalidCodePoint, 1};
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<Pattern> patterns) : patterns_(std::move(patterns)) {
  // Of several that normalization has made the same, the first one counts.
  std::stable_sort(patterns_.begin(), patterns_.end(),
                   [](const Pattern& a, const Pattern& b) { return a.text < b.text; });
  patterns_.erase(std::unique(patterns_.begin(), patterns_.end(),
                              [](const Pattern& a, const Pattern& b) { return a.text == b.text; }),
                  patterns_.end());
  nodes_.emplace_back();  // so that node 0 means none
  for (size_t begin = 0; begin < patterns_.size();) {
    size_t end = begin;
    while (end < patterns_.size() && patterns_[end].text[0] == patterns_[begin].text[0]) ++end;
    roots_[static_cast<uint8_t>(patterns_[begin].text[0])] = build(begin, end, 1);
    begin = end;
  }
}

/// The node of the patterns [begin, end), which share their first `depth` bytes.
uint32_t AddedTokenMatcher::build(size_t begin, size_t end, size_t depth) {
  const auto index = static_cast<uint32_t>(nodes_.size());
  nodes_.emplace_back();
  if (patterns_[begin].text.size() == depth) nodes_[index].pattern = static_cast<int32_t>(begin++);
  std::vector<Edge> edges;
  for (size_t first = begin; first < end;) {
    size_t last = first;
    while (last < end && patterns_[last].text[depth] == patterns_[first].text[depth]) ++last;
    edges.push_back({static_cast<uint8_t>(patterns_[first].text[depth]), build(first, last, depth + 1)});
    first = last;
  }
  nodes_[index].first_edge = static_cast<uint32_t>(edges_.size());
  nodes_[index].num_edges = static_cast<uint32_t>(edges.size());
  edges_.insert(edges_.end(), edges.begin(), edges.end());
  return index;
}

AddedTokenMatcher::Match AddedTokenMatcher::next(std::string_view text, size_t at) const {
  for (; at < text.size(); ++at) {
    uint32_t node = roots_[static_cast<uint8_t>(text[at])];
    if (node == 0) continue;
    Match best{nullptr, at, at};
    for (size_t i = at + 1; node != 0; ++i) {
      if (nodes_[node].pattern >= 0) best = {&patterns_[static_cast<size_t>(nodes_[node].pattern)], at, i};
      if (i >= text.size()) break;
      const Edge* edge = edges_.data() + nodes_[node].first_edge;
      const Edge* end = edge + nodes_[node].num_edges;
      const auto byte = static_cast<uint8_t>(text[i]);
      while (edge != end && edge->byte != byte) ++edge;
      node = edge == end ? 0 : edge->node;
    }
    if (best.pattern != nullptr) return best;
  }
  return {nullptr, at, at};
}

bool AddedTokenMatcher::applies(std::string_view text, Match& match, size_t done) {
  const AddedToken& token = match.pattern->token;
  if (match.begin < done) return false;
  if (token.single_word) {
    if (match.begin > 0 && is_word_character(code_point_before(text, match.begin).value)) return false;
    if (match.end < text.size() && is_word_character(decode_code_point(text, match.end).value)) return false;
  }
  if (token.lstrip) {
    while (match.begin > done) {
      const CodePoint c = code_point_before(text, match.begin);
      if (!is_white_space(c.value) || match.begin - done < c.length) break;
      match.begin -= c.length;
    }
  }
  if (token.rstrip) {
    while (match.end < text.size()) {
      const CodePoint c = decode_code_point(text, match.end);
      if (!is_white_space(c.value)) break;
      match.end += c.length;
    }
  }
  return true;
}

}  // namespace ondol::tokenization
