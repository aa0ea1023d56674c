// Extractive question answering: the best spans of a context by the scores of their ends.
#include <algorithm>
#include <cmath>

#include <ondol/base/parallel.h>

#include "predict/answer_windows.h"
#include "predict/text_batches.h"

namespace ondol {

namespace {

/// Longest window unless the caller says more: longer ones cost more and answer no better.
constexpr int64_t kWindowTokens = 384;

/// The windows of all texts, one behind the other.
struct Windows {
  std::vector<AnswerWindow> all;
  std::vector<Encoding> encodings;  // of the windows, as batches take them
  std::vector<size_t> text;         // of each window
};

Windows windows_of(const Model& model, const Tokenizer& tokenizer, std::span<const TextInput> texts,
                   const AnswerOptions& options) {
  const int64_t limit = model.info().max_positions;
  const AnswerWindowSettings settings{
      .max_tokens = std::min(limit, options.texts.max_tokens > 0 ? options.texts.max_tokens : kWindowTokens),
      .stride = options.stride,
      .max_question_tokens = options.max_question_tokens};
  std::vector<std::vector<AnswerWindow>> of_text(texts.size());
  parallel_for(static_cast<int64_t>(texts.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      of_text[i] = answer_windows(tokenizer.encode_detailed(texts[i].text, *texts[i].pair), settings);
    }
  });
  Windows windows;
  for (size_t i = 0; i < texts.size(); ++i) {
    for (AnswerWindow& window : of_text[i]) {
      windows.encodings.push_back({.ids = std::move(window.ids), .type_ids = std::move(window.type_ids)});
      windows.all.push_back(std::move(window));
      windows.text.push_back(i);
    }
  }
  return windows;
}

/// Each text once, at most options.count; "no answer" first when it wins.
std::vector<Answer> answers_of(const AnswerCandidates& found, const std::string& context,
                               const AnswerOptions& options) {
  const bool no_answer = options.no_answer_threshold.has_value();
  const bool none = no_answer && choose_answer(found, true, *options.no_answer_threshold) == TextRange{};
  std::vector<Answer> answers;
  const auto add = [&](const AnswerSpan& span) {
    const std::string text = context.substr(span.range.begin, span.range.end - span.range.begin);
    const bool known =
        std::any_of(answers.begin(), answers.end(), [&](const Answer& answer) { return answer.text == text; });
    if (!known && static_cast<int64_t>(answers.size()) < options.count) {
      answers.push_back({text, span.probability, span.range});
    }
  };
  for (const AnswerSpan& span : found.spans) {
    if (none && span.range == TextRange{}) add(span);
  }
  for (const AnswerSpan& span : found.spans) {
    if (span.range != TextRange{} || no_answer) add(span);
  }
  return answers;
}

}  // namespace

std::vector<std::vector<Answer>> answer_questions(Model& model, const Tokenizer& tokenizer,
                                                  std::span<const TextInput> texts, const AnswerOptions& options) {
  require_head(model, Head::question_answering, "qa");
  ONDOL_CHECK(options.count >= 1 && options.max_answer_tokens >= 1 && options.stride >= 0,
              "the numbers of answers and of their tokens must be at least 1, the stride at least 0");
  for (const TextInput& text : texts) {
    if (!text.pair)
      throw UsageError(concat("qa needs a question and a context", text.place.empty() ? "" : " (" + text.place + ")"));
  }
  const Windows windows = windows_of(model, tokenizer, texts, options);
  std::vector<AnswerSearch> searches(
      texts.size(), AnswerSearch({.best_count = std::max<int64_t>(options.count, AnswerSearchSettings{}.best_count),
                                  .max_answer_tokens = options.max_answer_tokens,
                                  .no_answer = options.no_answer_threshold.has_value()}));
  for_each_batch(model, windows.encodings, options.texts, [&](const TextBatch& batch) {
    const NoGrad no_grad;
    const NamedOutputs outputs = model.forward(batch.input, {});
    const Tensor starts = host_output(outputs, "start_logits"), ends = host_output(outputs, "end_logits");
    for (size_t b = 0; b < batch.texts.size(); ++b) {
      const size_t window = batch.texts[b], tokens = windows.encodings[window].ids.size();
      searches[windows.text[window]].add(windows.all[window].offsets, {starts.data<float>() + batch.starts[b], tokens},
                                         {ends.data<float>() + batch.starts[b], tokens});
    }
  });
  std::vector<std::vector<Answer>> results;
  for (size_t i = 0; i < texts.size(); ++i) {
    results.push_back(answers_of(searches[i].best(), *texts[i].pair, options));
  }
  return results;
}

}  // namespace ondol
