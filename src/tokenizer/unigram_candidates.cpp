// The pieces that Unigram training starts from.
#include <algorithm>
#include <map>

#include <ondol/base/error.h>

#include "tokenizer/unigram_learner.h"
#include "tokenizer/utf8.h"

namespace ondol::tokenization {

namespace {

/// The stretches of words that consist of required characters, as code points one after another.
struct CodePoints {
  std::vector<uint32_t> codes;
  std::vector<uint32_t> end;     // by position: where its stretch ends
  std::vector<int64_t> weights;  // by position: the count of its word

  CodePoints(const PieceCounts& words, const std::map<uint32_t, int64_t>& required) {
    for (const auto& entry : words.entries()) {
      const std::string_view word = words.text(entry);
      size_t begin = codes.size();
      const auto finish = [&] {
        end.resize(codes.size(), static_cast<uint32_t>(codes.size()));
        weights.resize(codes.size(), entry.count);
        begin = codes.size();
      };
      for (size_t i = 0; i < word.size();) {
        const CodePoint c = decode_code_point(word, i);
        i += c.length;
        required.contains(c.value) ? codes.push_back(c.value) : finish();
      }
      finish();
      if (codes.size() >= UINT32_MAX) throw Error("the distinct words are too long to train on");
    }
  }
};

std::string to_text(const uint32_t* codes, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) append_utf8(codes[i], text);
  return text;
}

}  // namespace

std::vector<ScoredPiece> required_characters(const PieceCounts& words, double coverage) {
  std::map<uint32_t, int64_t> counts;
  int64_t total = 0;
  for (const auto& entry : words.entries()) {
    const std::string_view word = words.text(entry);
    for (size_t i = 0; i < word.size();) {
      const CodePoint c = decode_code_point(word, i);
      i += c.length;
      if (c.value == kInvalidCodePoint || c.value == 0) continue;
      counts[c.value] += entry.count;
      total += entry.count;
    }
  }
  std::vector<std::pair<int64_t, uint32_t>> by_count;
  for (const auto& [c, count] : counts) by_count.emplace_back(-count, c);
  std::sort(by_count.begin(), by_count.end());
  std::vector<ScoredPiece> result;
  int64_t covered = 0;
  for (const auto& [count, c] : by_count) {
    if (static_cast<double>(covered) >= coverage * static_cast<double>(total)) break;
    covered -= count;
    result.push_back({to_text(&c, 1), static_cast<double>(-count)});
  }
  return result;
}

std::vector<ScoredPiece> candidate_pieces(const PieceCounts& words, const UnigramLimits& limits,
                                          const std::vector<ScoredPiece>& characters) {
  std::map<uint32_t, int64_t> required;
  for (const ScoredPiece& piece : characters) required[decode_code_point(piece.text, 0).value] = 1;
  const CodePoints text(words, required);
  const auto longest = static_cast<size_t>(limits.max_piece_characters);
  const auto length_at = [&](uint32_t at) { return std::min<size_t>(longest, text.end[at] - at); };
  // A suffix array whose suffixes end with their word, or after as many characters as a piece may have.
  std::vector<uint32_t> suffixes(text.codes.size());
  for (size_t i = 0; i < suffixes.size(); ++i) suffixes[i] = static_cast<uint32_t>(i);
  const uint32_t* codes = text.codes.data();
  std::sort(suffixes.begin(), suffixes.end(), [&](uint32_t a, uint32_t b) {
    const size_t na = length_at(a), nb = length_at(b);
    const size_t n = std::min(na, nb);
    for (size_t i = 0; i < n; ++i) {
      if (codes[a + i] != codes[b + i]) return codes[a + i] < codes[b + i];
    }
    return na < nb;
  });
  // Every node of the suffix tree is a repeated substring that no longer one stands for; `first` is where its suffixes
  // begin.
  struct Node {
    size_t depth, first;
  };
  std::vector<Node> open;
  std::vector<int64_t> weight_before(suffixes.size() + 1, 0);
  struct Candidate {
    int64_t score;
    uint32_t at;
    uint32_t length;
  };
  std::vector<Candidate> found;
  const auto close = [&](size_t depth, size_t end) {
    size_t first = end;
    while (!open.empty() && open.back().depth > depth) {
      const Node node = open.back();
      open.pop_back();
      first = node.first;
      const int64_t count = weight_before[end] - weight_before[node.first];
      if (count < 2 || node.depth < 2) continue;
      found.push_back(
          {count * static_cast<int64_t>(node.depth), suffixes[node.first], static_cast<uint32_t>(node.depth)});
    }
    return first;
  };
  for (size_t i = 0; i < suffixes.size(); ++i) {
    size_t common = 0;
    if (i > 0) {
      const uint32_t a = suffixes[i - 1], b = suffixes[i];
      const size_t n = std::min(length_at(a), length_at(b));
      while (common < n && codes[a + common] == codes[b + common]) ++common;
    }
    const size_t first = close(common, i);
    if (common > 0 && (open.empty() || open.back().depth < common)) open.push_back({common, first});
    const size_t length = length_at(suffixes[i]);
    if (open.empty() || open.back().depth < length) open.push_back({length, i});
    weight_before[i + 1] = weight_before[i] + text.weights[suffixes[i]];
  }
  close(0, suffixes.size());
  std::vector<ScoredPiece> pieces = characters;
  const auto room = static_cast<size_t>(std::max<int64_t>(0, limits.max_candidates));
  std::vector<ScoredPiece> longer;
  longer.reserve(found.size());
  for (const Candidate& candidate : found) {
    longer.push_back({to_text(codes + candidate.at, candidate.length), static_cast<double>(candidate.score)});
  }
  std::sort(longer.begin(), longer.end(), [](const ScoredPiece& a, const ScoredPiece& b) {
    return a.score != b.score ? a.score > b.score : a.text < b.text;
  });
  if (longer.size() > room) longer.resize(room);
  pieces.insert(pieces.end(), longer.begin(), longer.end());
  return pieces;
}

}  // namespace ondol::tokenization
