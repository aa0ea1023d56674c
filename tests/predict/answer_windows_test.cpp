// Windows against transformers' return_overflowing_tokens and the labels of its question answering example, the search
// against the n-best lists of SQuAD's evaluation computed in Python.
#include <fstream>

#include <ondol/base/error.h>

#include <gtest/gtest.h>

#include "base/json_reader.h"
#include "metrics/text.h"
#include "predict/answer_windows.h"
#include "support/test_data.h"

namespace ondol {
namespace {

struct Totals {
  int64_t windows = 0, without_answer = 0, starts = 0, ends = 0;
  int64_t ids = 0;  // a running hash
};

/// Bytes of the characters [begin, end).
TextRange bytes_of(const std::string& text, int64_t begin, int64_t end) {
  TextRange range;
  const std::vector<uint32_t> all = metrics::code_points(text);
  range.begin = metrics::to_utf8({all.begin(), all.begin() + begin}).size();
  range.end = metrics::to_utf8({all.begin(), all.begin() + end}).size();
  return range;
}

Totals totals_of(const std::string& relative, int64_t max_tokens, int64_t stride) {
  const Tokenizer tokenizer = load_tokenizer(test::data_path("models/all-minilm-l6-v2"));
  std::ifstream file(test::data_path(relative));
  const Json document = Json::parse(file);
  Totals totals;
  for (const auto& article : document["data"]) {
    for (const auto& paragraph : article["paragraphs"]) {
      const std::string context = paragraph["context"];
      for (const auto& question : paragraph["qas"]) {
        const auto& answer = question["answers"][0];
        const int64_t start = answer["answer_start"];
        const auto length = static_cast<int64_t>(metrics::code_points(answer["text"].get<std::string>()).size());
        const TextRange range = bytes_of(context, start, start + length);
        const Encoding pair = tokenizer.encode_detailed(question["question"].get<std::string>(), context);
        for (const AnswerWindow& window :
             answer_windows(pair, {.max_tokens = max_tokens, .stride = stride, .max_question_tokens = 1000})) {
          ++totals.windows;
          int64_t sum = 0;
          for (size_t k = 0; k < window.ids.size(); ++k) sum += static_cast<int64_t>(k + 1) * window.ids[k];
          totals.ids = (totals.ids * 31 + sum) % 1000003;
          const TokenSpan span = tokens_of_answer(window, range);
          if (span == TokenSpan{}) ++totals.without_answer;
          totals.starts += span.first;
          totals.ends += span.last;
        }
      }
    }
  }
  return totals;
}

void expect_totals(const Totals& totals, const Totals& expected) {
  EXPECT_EQ(totals.windows, expected.windows);
  EXPECT_EQ(totals.without_answer, expected.without_answer);
  EXPECT_EQ(totals.starts, expected.starts);
  EXPECT_EQ(totals.ends, expected.ends);
  EXPECT_EQ(totals.ids, expected.ids);
}

TEST(AnswerWindows, AgreeWithTransformers) {
  ONDOL_REQUIRE_DATA("tasks/xquad/xquad.en.json");
  ONDOL_REQUIRE_DATA("models/all-minilm-l6-v2");
  // The sum of starts is one less than in the example, which takes the separator for the first token of an answer that
  // is the last token of its window.
  expect_totals(totals_of("tasks/xquad/xquad.en.json", 96, 32), {3894, 2319, 75561, 80175, 870104});
  expect_totals(totals_of("tasks/xquad/xquad.en.json", 384, 128), {1219, 25, 97016, 100568, 943757});
  expect_totals(totals_of("tasks/xquad/xquad.zh.json", 384, 128), {1337, 124, 133974, 140099, 757551});
}

/// [CLS] question [SEP] context [SEP]; token t of the context covers bytes 4t … 4t+3.
Encoding pair_of(int64_t question, int64_t context) {
  Encoding pair;
  const auto add = [&pair](int32_t id, int32_t sequence, TextRange range) {
    pair.ids.push_back(id);
    pair.type_ids.push_back(sequence == 1 ? 1 : 0);
    pair.sequence_ids.push_back(sequence);
    pair.offsets.push_back(range);
  };
  add(1, -1, {});
  for (int64_t i = 0; i < question; ++i) add(10, 0, {static_cast<size_t>(4 * i), static_cast<size_t>(4 * i + 3)});
  add(2, -1, {});
  for (int64_t i = 0; i < context; ++i) {
    add(static_cast<int32_t>(100 + i), 1, {static_cast<size_t>(4 * i), static_cast<size_t>(4 * i + 3)});
  }
  add(2, -1, {});
  return pair;
}

TEST(AnswerWindows, EveryTokenOfTheContextIsInAWindow) {
  const std::vector<AnswerWindow> windows =
      answer_windows(pair_of(5, 20), {.max_tokens = 13, .stride = 3, .max_question_tokens = 2});
  ASSERT_EQ(windows.size(), 4u);  // 8 tokens each, 5 new ones: 0-7, 5-12, 10-17, 15-19
  EXPECT_EQ(windows[0].ids, (std::vector<int32_t>{1, 10, 10, 2, 100, 101, 102, 103, 104, 105, 106, 107, 2}));
  EXPECT_EQ(windows[3].ids, (std::vector<int32_t>{1, 10, 10, 2, 115, 116, 117, 118, 119, 2}));
  EXPECT_EQ(windows[1].offsets[3], TextRange{});
  EXPECT_EQ(windows[1].offsets[4], (TextRange{20, 23}));
  EXPECT_EQ(tokens_of_answer(windows[0], {24, 31}), (TokenSpan{10, 11}));
  EXPECT_EQ(tokens_of_answer(windows[0], {25, 27}), (TokenSpan{10, 10}));  // inside a token
  EXPECT_EQ(tokens_of_answer(windows[0], {28, 35}), TokenSpan{});          // ends in the next window
  EXPECT_EQ(tokens_of_answer(windows[1], {28, 35}), (TokenSpan{6, 7}));
  EXPECT_EQ(answer_windows(pair_of(2, 0), {.max_tokens = 8}).size(), 1u);
  EXPECT_EQ(answer_windows(pair_of(2, 3), {.max_tokens = 8}).size(), 1u);
  EXPECT_EQ(answer_windows(pair_of(2, 4), {.max_tokens = 8, .stride = 9}).size(), 2u);  // half is shared
  EXPECT_THROW(answer_windows(pair_of(5, 4), {.max_tokens = 8}), UsageError);
}

float score_of(int64_t window, int64_t token, int64_t kind) {
  return static_cast<float>((window * 7919 + token * 104729 + kind * 1299709) % 2003) / 128.0f;
}

/// Three windows of 40 tokens, of which 6 to 38 are of the context.
AnswerCandidates search(const AnswerSearchSettings& settings) {
  AnswerSearch search(settings);
  for (int64_t w = 0; w < 3; ++w) {
    std::vector<TextRange> offsets(40);
    std::vector<float> starts, ends;
    for (int64_t t = 0; t < 40; ++t) {
      const auto byte = static_cast<size_t>((w * 33 + t) * 4);
      if (t >= 6 && t < 39) offsets[static_cast<size_t>(t)] = {byte, byte + 3};
      starts.push_back(score_of(w, t, 0));
      ends.push_back(score_of(w, t, 1));
    }
    search.add(offsets, starts, ends);
  }
  return search.best();
}

TEST(AnswerSearch, TheBestSpansOfAllWindows) {
  const AnswerCandidates found = search({});
  ASSERT_EQ(found.spans.size(), 20u);
  EXPECT_EQ(found.spans[0].range, (TextRange{244, 263}));
  EXPECT_EQ(found.spans[0].score(), 30.5546875);
  EXPECT_NEAR(found.spans[0].probability, 0.09091632745091409, 1e-12);
  EXPECT_NEAR(found.spans[19].probability, 0.016817829526300964, 1e-12);
  EXPECT_EQ(found.null_score, 13.7890625);
  EXPECT_EQ(choose_answer(found, false, 0.0), (TextRange{244, 263}));
}

TEST(AnswerSearch, NoAnswerIsACandidate) {
  const AnswerCandidates found = search({.max_answer_tokens = 3, .no_answer = true});
  ASSERT_EQ(found.spans.size(), 21u);  // it is kept below the best twenty
  EXPECT_EQ(found.spans[0].range, (TextRange{272, 275}));
  EXPECT_NEAR(found.spans[0].probability, 0.10367196245528801, 1e-12);
  EXPECT_EQ(found.spans[20].range, TextRange{});
  EXPECT_NEAR(found.spans[20].probability / 4.7980983961703264e-08, 1.0, 1e-9);
  const double margin = found.null_score - found.spans[0].score();
  EXPECT_EQ(choose_answer(found, true, margin), (TextRange{272, 275}));
  EXPECT_EQ(choose_answer(found, true, margin - 1e-6), TextRange{});
}

TEST(AnswerSearch, WithoutAnyContext) {
  AnswerSearch search({});
  const std::vector<TextRange> offsets(3);
  const std::vector<float> scores(3, 1.0f);
  search.add(offsets, scores, scores);
  EXPECT_TRUE(search.best().spans.empty());
  EXPECT_EQ(choose_answer(search.best(), false, 0.0), TextRange{});
  EXPECT_THROW(search.add(offsets, scores, {scores.data(), 2}), Error);
}

}  // namespace
}  // namespace ondol
