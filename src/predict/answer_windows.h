// Extractive question answering (Devlin et al. 2019): a question and a long context as windows that a model can read,
// and the best answers over all windows of a question.
//
//   const Encoding pair = tokenizer.encode_detailed(question, context);
//   const std::vector<AnswerWindow> windows = answer_windows(pair, {.max_tokens = 384, .stride = 128});
//   AnswerSearch search({.best_count = 20, .max_answer_tokens = 30});
//   for (size_t w = 0; w < windows.size(); ++w) search.add(windows[w].offsets, start_scores[w], end_scores[w]);
//   const AnswerCandidates found = search.best();           // context.substr(found.spans[0].range ...)
//
// The first token of a window stands for "no answer" (SQuAD 2.0).
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <ondol/tokenizer/tokenizer.h>

namespace ondol {

struct AnswerWindowSettings {
  int64_t max_tokens = 384;          // of a window, special tokens among them
  int64_t stride = 128;              // tokens of the context that neighbouring windows share; half of them, if that is all
  int64_t max_question_tokens = 64;  // longer questions are cut
};

struct AnswerWindow {
  std::vector<int32_t> ids, type_ids;
  /// Of each token in the context; empty for tokens that are not of the context.
  std::vector<TextRange> offsets;
};

/// The special tokens and the question come with every window. Throws UsageError when question and special tokens leave
/// no room for the context.
std::vector<AnswerWindow> answer_windows(const Encoding& pair, const AnswerWindowSettings& settings);

struct TokenSpan {
  int32_t first = 0, last = 0;
  bool operator==(const TokenSpan&) const = default;
};
/// The tokens that hold these bytes of the context; the first token of the window unless all of them are in the window.
TokenSpan tokens_of_answer(const AnswerWindow& window, const TextRange& answer);

struct AnswerSpan {
  TextRange range;  // of the context; empty: no answer
  double start_score = 0.0, end_score = 0.0;
  double probability = 0.0;  // softmax over all candidates
  double score() const { return start_score + end_score; }
};

struct AnswerCandidates {
  std::vector<AnswerSpan> spans;  // the best first
  /// Of "no answer": the smallest over the windows.
  double null_score = std::numeric_limits<double>::infinity();
};

struct AnswerSearchSettings {
  int64_t best_count = 20;  // starts and ends that are looked at in a window, and candidates that are kept
  int64_t max_answer_tokens = 30;
  bool no_answer = false;  // "no answer" is a candidate, too
};

class AnswerSearch {
 public:
  explicit AnswerSearch(const AnswerSearchSettings& settings) : settings_(settings) {}

  /// Scores of all tokens of a window.
  void add(std::span<const TextRange> offsets, std::span<const float> starts, std::span<const float> ends);
  AnswerCandidates best() const;

 private:
  AnswerSearchSettings settings_;
  std::vector<AnswerSpan> spans_;
  AnswerSpan null_{.start_score = std::numeric_limits<double>::infinity()};
};

/// The answer that counts: the best span with a text, but nothing (an empty range) when "no answer" scores better by
/// more than `threshold`.
TextRange choose_answer(const AnswerCandidates& candidates, bool no_answer, double threshold);

}  // namespace ondol
