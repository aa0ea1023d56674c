#include <ondol/metrics/question_answering.h>

#include <algorithm>

#include <ondol/base/error.h>

#include "metrics/text.h"

namespace ondol::metrics {

namespace {

using Text = std::vector<uint32_t>;

/// Signs that KorQuAD takes for white space: ' " < > ( ) and the quotation marks around titles.
bool is_korean_bracket(uint32_t c) {
  constexpr uint32_t kSigns[] = {'\'', '"', '<', '>', '(', ')', 0x2018, 0x2019, 0x3008, 0x3009, 0x300a, 0x300b};
  return std::find(std::begin(kSigns), std::end(kSigns), c) != std::end(kSigns);
}

bool is_article(const Text& text, size_t begin, size_t end) {
  const std::string word =
      to_utf8({text.begin() + static_cast<ptrdiff_t>(begin), text.begin() + static_cast<ptrdiff_t>(end)});
  return word == "a" || word == "an" || word == "the";
}

/// A blank in the place of every word that is an article.
Text without_articles(const Text& text) {
  Text result;
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && is_word(text[end])) ++end;
    if (end == i) {
      result.push_back(text[i++]);
      continue;
    }
    if (is_article(text, i, end)) {
      result.push_back(' ');
    } else {
      result.insert(result.end(), text.begin() + static_cast<ptrdiff_t>(i), text.begin() + static_cast<ptrdiff_t>(end));
    }
    i = end;
  }
  return result;
}

std::vector<Text> normalized_words(const std::string& text, AnswerRules rules) {
  Text characters = code_points(text);
  if (rules == AnswerRules::korquad) std::replace_if(characters.begin(), characters.end(), is_korean_bracket, ' ');
  characters = lowercase(characters);
  std::erase_if(characters, is_ascii_punctuation);
  if (rules != AnswerRules::korquad) characters = without_articles(characters);
  return split(characters);
}

template <class T>
int64_t common(std::vector<T> a, std::vector<T> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  std::vector<T> both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return static_cast<int64_t>(both.size());
}

template <class T>
double f1_of(const std::vector<T>& predicted, const std::vector<T>& expected) {
  const int64_t same = common(predicted, expected);
  if (same == 0) return 0.0;
  return 2.0 * static_cast<double>(same) / static_cast<double>(predicted.size() + expected.size());
}

Text joined(const std::vector<Text>& words) {
  Text all;
  for (const Text& word : words) all.insert(all.end(), word.begin(), word.end());
  return all;
}

double f1_of(const std::string& predicted, const std::string& expected, AnswerRules rules) {
  const std::vector<Text> ours = normalized_words(predicted, rules), theirs = normalized_words(expected, rules);
  if (rules == AnswerRules::squad2 && (ours.empty() || theirs.empty()))
    return ours.empty() && theirs.empty() ? 1.0 : 0.0;
  return rules == AnswerRules::korquad ? f1_of(joined(ours), joined(theirs)) : f1_of(ours, theirs);
}

/// Under squad2 answers of which nothing is left do not count, and no answer is the empty one.
std::vector<std::string> counted_answers(const std::vector<std::string>& expected, AnswerRules rules) {
  std::vector<std::string> answers = expected;
  if (rules == AnswerRules::squad2) {
    std::erase_if(answers, [&](const std::string& answer) { return normalized_words(answer, rules).empty(); });
    if (answers.empty()) answers.emplace_back();
  }
  ONDOL_CHECK(!answers.empty(), "a question has no expected answer");
  return answers;
}

}  // namespace

std::string normalize_answer(const std::string& text, AnswerRules rules) {
  std::string result;
  for (const Text& word : normalized_words(text, rules)) result += (result.empty() ? "" : " ") + to_utf8(word);
  return result;
}

double exact_match(const std::string& predicted, const std::vector<std::string>& expected, AnswerRules rules) {
  const std::string ours = normalize_answer(predicted, rules);
  for (const std::string& answer : counted_answers(expected, rules)) {
    if (normalize_answer(answer, rules) == ours) return 1.0;
  }
  return 0.0;
}

double answer_f1(const std::string& predicted, const std::vector<std::string>& expected, AnswerRules rules) {
  double best = 0.0;
  for (const std::string& answer : counted_answers(expected, rules)) {
    best = std::max(best, f1_of(predicted, answer, rules));
  }
  return best;
}

AnswerScores answer_scores(std::span<const std::string> predicted, std::span<const std::vector<std::string>> expected,
                           AnswerRules rules) {
  ONDOL_CHECK(predicted.size() == expected.size() && !predicted.empty(), "answers of ", predicted.size(),
              " questions, expected ones of ", expected.size());
  AnswerScores scores;
  scores.total = static_cast<int64_t>(predicted.size());
  double exact[2] = {0.0, 0.0}, f1[2] = {0.0, 0.0};  // without and with an expected answer
  for (size_t i = 0; i < predicted.size(); ++i) {
    const size_t kind = expected[i].empty() ? 0 : 1;
    scores.answerable += static_cast<int64_t>(kind);
    exact[kind] += exact_match(predicted[i], expected[i], rules);
    f1[kind] += answer_f1(predicted[i], expected[i], rules);
  }
  const auto mean = [](double sum, int64_t count) {
    return count > 0 ? 100.0 * sum / static_cast<double>(count) : 0.0;
  };
  scores.exact_match = mean(exact[0] + exact[1], scores.total);
  scores.f1 = mean(f1[0] + f1[1], scores.total);
  scores.answerable_exact_match = mean(exact[1], scores.answerable);
  scores.answerable_f1 = mean(f1[1], scores.answerable);
  scores.unanswerable_exact_match = mean(exact[0], scores.total - scores.answerable);
  return scores;
}

}  // namespace ondol::metrics
