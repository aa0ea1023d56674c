#include "predict/answer_windows.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <ondol/base/error.h>

namespace ondol {

namespace {

/// Token numbers of a pair: those before the context (a long question cut), the context, those behind it.
struct Parts {
  std::vector<size_t> front, context, back;
};

Parts parts_of(const Encoding& pair, int64_t max_question_tokens) {
  Parts parts;
  int64_t question = 0;
  for (size_t t = 0; t < pair.ids.size(); ++t) {
    if (pair.sequence_ids[t] == 1) {
      parts.context.push_back(t);
    } else if (pair.sequence_ids[t] != 0 || ++question <= max_question_tokens) {
      (parts.context.empty() ? parts.front : parts.back).push_back(t);
    }
  }
  return parts;
}

/// The numbers of the `count` highest scores, the highest first.
std::vector<size_t> highest(std::span<const float> scores, int64_t count) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto kept = order.begin() + std::min<ptrdiff_t>(count, static_cast<ptrdiff_t>(order.size()));
  std::partial_sort(order.begin(), kept, order.end(),
                    [&](size_t a, size_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
  order.erase(kept, order.end());
  return order;
}

void keep_best(std::vector<AnswerSpan>& spans, int64_t count) {
  std::stable_sort(spans.begin(), spans.end(),
                   [](const AnswerSpan& a, const AnswerSpan& b) { return a.score() > b.score(); });
  if (static_cast<int64_t>(spans.size()) > count) spans.resize(static_cast<size_t>(count));
}

}  // namespace

std::vector<AnswerWindow> answer_windows(const Encoding& pair, const AnswerWindowSettings& settings) {
  const Parts parts = parts_of(pair, settings.max_question_tokens);
  const int64_t around = static_cast<int64_t>(parts.front.size() + parts.back.size());
  const int64_t room = settings.max_tokens - around, tokens = static_cast<int64_t>(parts.context.size());
  if (room < 1) {
    throw UsageError(concat("a question and its special tokens take ", around, " tokens, a window has ",
                            settings.max_tokens, ": nothing is left for the context"));
  }
  const int64_t step = room - (settings.stride < room ? settings.stride : room / 2);
  std::vector<AnswerWindow> windows;
  for (int64_t begin = 0; windows.empty() || begin + room - step < tokens; begin += step) {
    AnswerWindow& window = windows.emplace_back();
    const auto append = [&](size_t t, bool context) {
      window.ids.push_back(pair.ids[t]);
      window.type_ids.push_back(pair.type_ids[t]);
      window.offsets.push_back(context ? pair.offsets[t] : TextRange{});
    };
    for (const size_t t : parts.front) append(t, false);
    for (int64_t i = begin; i < std::min(begin + room, tokens); ++i)
      append(parts.context[static_cast<size_t>(i)], true);
    for (const size_t t : parts.back) append(t, false);
  }
  return windows;
}

TokenSpan tokens_of_answer(const AnswerWindow& window, const TextRange& answer) {
  const auto is_context = [](const TextRange& range) { return range.end > range.begin; };
  const auto begin = std::find_if(window.offsets.begin(), window.offsets.end(), is_context);
  const auto end = std::find_if(window.offsets.rbegin(), window.offsets.rend(), is_context).base();
  if (begin == window.offsets.end() || begin->begin > answer.begin || (end - 1)->end < answer.end) return {};
  auto first = begin;
  while (first + 1 != end && (first + 1)->begin <= answer.begin) ++first;
  auto last = end - 1;
  while (last != first && (last - 1)->end >= answer.end) --last;
  return {static_cast<int32_t>(first - window.offsets.begin()), static_cast<int32_t>(last - window.offsets.begin())};
}

void AnswerSearch::add(std::span<const TextRange> offsets, std::span<const float> starts, std::span<const float> ends) {
  ONDOL_CHECK(offsets.size() == starts.size() && offsets.size() == ends.size() && !offsets.empty(), "a window of ",
              offsets.size(), " tokens has ", starts.size(), " scores");
  const AnswerSpan null{.start_score = starts[0], .end_score = ends[0]};
  if (null.score() < null_.score()) null_ = null;
  const std::vector<size_t> last = highest(ends, settings_.best_count);
  for (const size_t i : highest(starts, settings_.best_count)) {
    for (const size_t j : last) {
      const bool context = offsets[i].end > offsets[i].begin && offsets[j].end > offsets[j].begin;
      if (!context || j < i || static_cast<int64_t>(j - i) >= settings_.max_answer_tokens) continue;
      spans_.push_back({.range = {offsets[i].begin, offsets[j].end}, .start_score = starts[i], .end_score = ends[j]});
    }
  }
  keep_best(spans_, settings_.best_count);
}

AnswerCandidates AnswerSearch::best() const {
  AnswerCandidates result;
  result.spans = spans_;
  result.null_score = null_.score();
  if (settings_.no_answer) {
    result.spans.push_back(null_);
    keep_best(result.spans, settings_.best_count);
    const bool kept = std::any_of(result.spans.begin(), result.spans.end(),
                                  [](const AnswerSpan& span) { return span.range == TextRange{}; });
    if (!kept) result.spans.push_back(null_);
  }
  double sum = 0.0;
  for (AnswerSpan& span : result.spans) {
    span.probability = std::exp(span.score() - result.spans.front().score());
    sum += span.probability;
  }
  for (AnswerSpan& span : result.spans) span.probability /= sum;
  return result;
}

TextRange choose_answer(const AnswerCandidates& candidates, bool no_answer, double threshold) {
  const auto best = std::find_if(candidates.spans.begin(), candidates.spans.end(),
                                 [](const AnswerSpan& span) { return span.range != TextRange{}; });
  if (best == candidates.spans.end()) return {};
  if (no_answer && candidates.null_score - best->score() > threshold) return {};
  return best->range;
}

}  // namespace ondol
