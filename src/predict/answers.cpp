// Extractive question answering (Devlin et al. 2019): the best spans of a context by the scores of their ends.
#include <algorithm>
#include <cmath>

#include "predict/text_batches.h"

namespace ondol {

namespace {

/// Softmax over the positions that take part; the others get 0.
std::vector<double> softmax_over(const float* scores, const std::vector<bool>& takes_part) {
  double largest = -INFINITY, sum = 0.0;
  std::vector<double> probabilities(takes_part.size(), 0.0);
  for (size_t t = 0; t < takes_part.size(); ++t) {
    if (takes_part[t]) largest = std::max(largest, static_cast<double>(scores[t]));
  }
  for (size_t t = 0; t < takes_part.size(); ++t) {
    if (takes_part[t]) probabilities[t] = std::exp(scores[t] - largest);
    sum += probabilities[t];
  }
  for (double& p : probabilities) p /= sum;
  return probabilities;
}

struct Span {
  double score;
  size_t start, end;
};

/// Spans of context tokens, the best first. The first token, which models without an answer point to, takes part in the
/// distribution, but is no answer.
std::vector<Span> best_spans(const Encoding& encoding, const float* start_scores, const float* end_scores,
                             int64_t max_tokens) {
  std::vector<bool> context(encoding.ids.size()), takes_part(encoding.ids.size());
  for (size_t t = 0; t < context.size(); ++t) context[t] = takes_part[t] = encoding.sequence_ids[t] == 1;
  takes_part[0] = true;
  const std::vector<double> starts = softmax_over(start_scores, takes_part);
  const std::vector<double> ends = softmax_over(end_scores, takes_part);
  std::vector<Span> spans;
  for (size_t i = 0; i < context.size(); ++i) {
    for (size_t j = i; context[i] && j < context.size() && j < i + static_cast<size_t>(max_tokens); ++j) {
      if (context[j]) spans.push_back({starts[i] * ends[j], i, j});
    }
  }
  std::stable_sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.score > b.score; });
  return spans;
}

}  // namespace

std::vector<std::vector<Answer>> answer_questions(Model& model, const Tokenizer& tokenizer,
                                                  std::span<const TextInput> texts, const AnswerOptions& options) {
  require_head(model, Head::question_answering, "qa");
  ONDOL_CHECK(options.count >= 1 && options.max_answer_tokens >= 1,
              "the numbers of answers and of their tokens must be at least 1");
  for (const TextInput& text : texts) {
    if (!text.pair)
      throw UsageError(concat("qa needs a question and a context", text.place.empty() ? "" : " (" + text.place + ")"));
  }
  const std::vector<Encoding> encodings = encode_texts(model, tokenizer, texts, options.texts,
                                                       {.detailed = true, .strategy = TruncationStrategy::only_second});
  std::vector<std::vector<Answer>> results(texts.size());
  for_each_batch(model, encodings, options.texts, [&](const TextBatch& batch) {
    const NoGrad no_grad;
    const NamedOutputs outputs = model.forward(batch.input, {});
    const Tensor starts = host_output(outputs, "start_logits"), ends = host_output(outputs, "end_logits");
    for (size_t b = 0; b < batch.texts.size(); ++b) {
      const Encoding& encoding = encodings[batch.texts[b]];
      const std::string& context = *texts[batch.texts[b]].pair;
      std::vector<Answer>& answers = results[batch.texts[b]];
      for (const Span& span : best_spans(encoding, starts.data<float>() + batch.starts[b],
                                         ends.data<float>() + batch.starts[b], options.max_answer_tokens)) {
        if (static_cast<int64_t>(answers.size()) == options.count) break;
        const TextRange range{encoding.offsets[span.start].begin, encoding.offsets[span.end].end};
        const std::string text = context.substr(range.begin, range.end - range.begin);
        const bool known =
            std::any_of(answers.begin(), answers.end(), [&](const Answer& answer) { return answer.text == text; });
        if (!known) answers.push_back({text, span.score, range});
      }
    }
  });
  return results;
}

}  // namespace ondol
