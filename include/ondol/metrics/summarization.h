// ROUGE-1, ROUGE-2 and ROUGE-L of summaries (Lin 2004), as the package rouge_score computes them without stemming.
//
//   metrics::RougeScores one = metrics::rouge("the cat sat", {"the cat sat down", "a cat sat"});
//   metrics::RougeScores mean = metrics::rouge(summaries, references);     // over the corpus
//   mean.rouge_l.f1;                                                       // 0 … 1
//
// Of several references the one with the best F counts, for each kind by itself.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace ondol::metrics {

struct RougeOptions {
  /// False: tokens are runs of a-z and 0-9 of the text in lower case, as in the original, which sees nothing of other
  /// scripts. True: runs of letters, numbers and underscores of any script.
  bool all_scripts = false;
};

struct RougeScore {
  double precision = 0.0, recall = 0.0, f1 = 0.0;
};
struct RougeScores {
  RougeScore rouge1, rouge2, rouge_l;
};

/// Throws Error without a reference.
RougeScores rouge(const std::string& summary, const std::vector<std::string>& references,
                  const RougeOptions& options = {});
/// The mean over all summaries. Throws Error when the numbers differ or there are none.
RougeScores rouge(std::span<const std::string> summaries, std::span<const std::vector<std::string>> references,
                  const RougeOptions& options = {});

}  // namespace ondol::metrics
