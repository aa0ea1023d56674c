// BLEU and chrF of a corpus, as sacreBLEU computes them.
//
//   std::vector<std::string> hypotheses = {...};
//   std::vector<std::vector<std::string>> references = {{"one", "or another"}, ...};   // for each hypothesis
//   double score = metrics::bleu(hypotheses, references).score;   // 0 … 100;
//   nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp double chrf = metrics::chrf(hypotheses, references);          // 0 …
//   100; nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no
//
// Both throw Error when the numbers of hypotheses and references differ, or a hypothesis has no reference.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ondol::metrics {

enum class BleuTokens {
  v13a,        // mteval-v13a: punctuation apart, but for points and commas in numbers
  characters,  // every character that is no white space
  words        // what white space separates
};

struct BleuOptions {
  BleuTokens tokens = BleuTokens::v13a;
  bool lowercase = false;
};

/// Papineni et al. (2002), orders 1 to 4. A precision of 0 is smoothed: the k-th such order counts as 1 / 2^k matches
/// (the method "exp"); without any match at all the score is 0.
struct BleuScore {
  double score = 0.0;                  // brevity penalty x geometric mean of the precisions
  std::array<double, 4> precisions{};  // 0 … 100
  double brevity_penalty = 1.0;
  int64_t hypothesis_length = 0, reference_length = 0;  // tokens; of several references the closest in length
};
BleuScore bleu(std::span<const std::string> hypotheses, std::span<const std::vector<std::string>> references,
               const BleuOptions& options = {});

/// The tokens that bleu compares.
std::vector<std::string> bleu_tokens(std::string_view text, const BleuOptions& options = {});

/// Popovic (2015): F of the n-grams of characters without white space; with word_order 2 it is chrF++ (2017).
struct ChrfOptions {
  int char_order = 6, word_order = 0;
  double beta = 2.0;
  bool lowercase = false;
};
double chrf(std::span<const std::string> hypotheses, std::span<const std::vector<std::string>> references,
            const ChrfOptions& options = {});

}  // namespace ondol::metrics
