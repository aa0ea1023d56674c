// Finds added tokens in a text: leftmost, longest, as Hugging Face tokenizers do.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <ondol/tokenizer/tokenizer.h>

namespace ondol::tokenization {

class AddedTokenMatcher {
 public:
  struct Pattern {
    std::string text;
    AddedToken token;
  };
  AddedTokenMatcher() = default;
  explicit AddedTokenMatcher(std::vector<Pattern> patterns);

  bool empty() const { return patterns_.empty(); }

  /// Calls between(text) and token(id, text) in order for the stretches of the text, not for empty ones.
  template <class Between, class Token>
  void split(std::string_view text, Between&& between, Token&& token) const {
    size_t done = 0;
    for (size_t at = 0; at < text.size();) {
      Match match = next(text, at);
      if (match.pattern == nullptr) break;
      at = match.end;
      if (!applies(text, match, done)) continue;
      if (done < match.begin) between(text.substr(done, match.begin - done));
      token(match.pattern->token.id, text.substr(match.begin, match.end - match.begin));
      done = match.end;
      at = std::max(at, done);
    }
    if (done < text.size()) between(text.substr(done));
  }

 private:
  struct Match {
    const Pattern* pattern;
    size_t begin, end;
  };
  struct Node {
    uint32_t first_edge = 0, num_edges = 0;
    int32_t pattern = -1;
  };
  struct Edge {
    uint8_t byte;
    uint32_t node;
  };

  /// The longest pattern at the first place from `at` where any matches.
  Match next(std::string_view text, size_t at) const;
  /// Checks single_word and widens the match by lstrip and rstrip; `done` is where the match before it ends.
  static bool applies(std::string_view text, Match& match, size_t done);
  uint32_t build(size_t begin, size_t end, size_t depth);

  std::vector<Pattern> patterns_;  // sorted by text
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
  std::array<uint32_t, 256> roots_{};  // node of each first byte, 0: none
};

}  // namespace ondol::tokenization
