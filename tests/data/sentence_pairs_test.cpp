// Sentence pairs as in the papers: what follows what, how often it is changed, and that every sentence has its turn.
#include "data/sentence_pairs.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include <ondol/base/error.h>
#include <ondol/base/philox.h>

#include "data/byte_encoder.h"
#include "support/error_of.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

using testing::TemporaryDirectory;

constexpr int32_t kCls = 2, kSep = 3;

/// A token says where it stands: document, sentence, place. "17 5 12" is sentence 5 of document 17, of 12 tokens.
int32_t token_of(int64_t document, int64_t sentence, int64_t place) {
  return static_cast<int32_t>(10 + (document * 64 + sentence) * 32 + place);
}
int64_t document_of(int32_t id) { return (id - 10) / 32 / 64; }
int64_t sentence_of(int32_t id) { return (id - 10) / 32 % 64; }

TextEncoder place_encoder() {
  TextEncoder encoder;
  encoder.encode = [](std::span<const std::string> texts, std::vector<std::vector<int32_t>>& ids) {
    for (const std::string& text : texts) {
      auto& tokens = ids.emplace_back();
      int64_t document = 0, sentence = 0, length = 0;
      if (std::sscanf(text.c_str(), "%ld %ld %ld", &document, &sentence, &length) != 3) continue;
      for (int64_t i = 0; i < length; ++i) tokens.push_back(token_of(document, sentence, i));
    }
  };
  encoder.vocab_size = 1 << 30;
  encoder.fingerprint = 5;
  encoder.bos_id = kCls;
  encoder.eos_id = kSep;
  return encoder;
}

/// Documents of `sentences` sentences; `length` 0: 3 ... 24 tokens, else that.
std::string corpus_text(int64_t documents, int64_t sentences, int64_t length) {
  std::string text;
  for (int64_t d = 0; d < documents; ++d) {
    for (int64_t s = 0; s < sentences; ++s) {
      const auto drawn = 3 + philox_word({1, 0, 0}, static_cast<uint64_t>(64 * d + s)) % 22;
      text += concat(d, " ", s, " ", length > 0 ? length : static_cast<int64_t>(drawn), "\n");
    }
    text += "\n";
  }
  return text;
}

DataConfig pair_config(const std::string& path, SentencePairSettings::Task task) {
  DataConfig config;
  config.train = {{.path = path}};
  config.sequence_length = 128;
  config.document_separator = "blank_line";
  config.sentences = SentenceSplit::lines;
  config.pairs.task = task;
  return config;
}

double share_bound(double p, double n) { return 4.5 * std::sqrt(p * (1.0 - p) / n); }

detail::SentenceCorpus open_corpus(const TemporaryDirectory& directory, const std::string& text) {
  prepare_tokens(place_encoder(), {directory.write("c.txt", text)}, directory / "c",
                 {.separator = "blank_line", .sentences = SentenceSplit::lines});
  return {detail::TokenStream({std::make_shared<const TokenFile>(directory / "c")}), kCls};
}

detail::PairSettings plan_settings(SentencePairSettings::Task task) {
  detail::PairSettings settings;
  settings.pairs.task = task;
  settings.sequence_length = 128;
  settings.seed = 7;
  return settings;
}

TEST(SentencePairs, EverySentenceHasItsTurn) {
  const TemporaryDirectory directory;
  const auto corpus = open_corpus(directory, corpus_text(2000, 40, 0));  // a million tokens
  ASSERT_EQ(corpus.documents(), 2000);
  for (const int64_t epoch : {0, 1}) {
    const auto plan = plan_pairs(corpus, plan_settings(SentencePairSettings::next_sentence), epoch);
    std::map<uint32_t, uint32_t> next;  // by document: the sentence that is due
    int64_t random = 0, several = 0;
    for (const detail::SentencePair& pair : plan) {
      uint32_t& due = next[pair.a.document];
      ASSERT_EQ(pair.a.first, due);
      due += pair.a.count;
      if (pair.changed) {
        EXPECT_NE(pair.b.document, pair.a.document);
      } else {
        ASSERT_EQ(pair.b.document, pair.a.document);
        ASSERT_EQ(pair.b.first, due) << "what follows A, whole";
        due += pair.b.count;
      }
      if (pair.a.count < 2) continue;  // then there were two sentences at least, and the coin decided
      ++several;
      random += pair.changed;
    }
    for (const auto& [document, due] : next) EXPECT_EQ(due, 40u) << "sentences that were not used are put back";
    EXPECT_EQ(next.size(), 2000u);
    EXPECT_GT(several, 5000);
    EXPECT_NEAR(static_cast<double>(random) / static_cast<double>(several), 0.5,
                share_bound(0.5, static_cast<double>(several)));
  }
}

// Devlin et al. 2019, appendix A.2 and create_pretraining_data.py: 10 % of the documents have a target of 2 ... 125.
TEST(SentencePairs, SomeDocumentsHaveShortPairs) {
  const TemporaryDirectory directory;
  const auto corpus = open_corpus(directory, corpus_text(6000, 40, 5));  // 1.2 million tokens
  const auto plan = plan_pairs(corpus, plan_settings(SentencePairSettings::next_sentence), 0);
  int64_t seen = 0, brief = 0;
  for (const detail::SentencePair& pair : plan) {
    if (pair.a.first != 0 || pair.changed) continue;  // the first of a document, with what follows it
    ++seen;
    const uint32_t tokens = 5 * (pair.a.count + pair.b.count);
    EXPECT_LE(tokens, 125u);
    brief += tokens < 100;
  }
  // Sentences of 5 tokens are collected up to the target: below 100 for targets of 2 ... 95. A pair that follows has
  // two.
  const double p_several = 0.1 * (95.0 - 5.0) / 124.0 * 0.5;
  const double p = p_several / (p_several + 0.5 * (0.9 + 0.1 * 30.0 / 124.0));
  EXPECT_GT(seen, 2700);
  EXPECT_NEAR(static_cast<double>(brief) / static_cast<double>(seen), p, share_bound(p, static_cast<double>(seen)));
}

TEST(SentencePairs, SamplesAreFramedAndTruncated) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("c.txt", corpus_text(400, 40, 0));
  const TextEncoder encoder = place_encoder();
  DataLoader loader(pair_config(path, SentencePairSettings::next_sentence), DataSplit::train,
                    {.encoder = &encoder, .cache_directory = directory / "cache", .pad_id = 0});
  const int64_t rows = loader.samples_per_epoch();
  const Batch batch = loader.next(rows);
  ASSERT_EQ(batch.others.size(), 2u);
  ASSERT_EQ(batch.others[0].first, "token_type_ids");
  ASSERT_EQ(batch.others[1].first, "next_sentence_label");
  const std::vector<int32_t> ids = batch.input_ids.to_vector<int32_t>(),
                             types = batch.others[0].second.to_vector<int32_t>();
  const std::vector<int32_t> labels = batch.others[1].second.to_vector<int32_t>();
  const std::vector<uint8_t> mask = batch.attention_mask.to_vector<uint8_t>();
  int64_t cut = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const auto at = static_cast<size_t>(row * 128);
    size_t length = 0;
    while (length < 128 && mask[at + length] != 0) ++length;
    const std::vector<int32_t> sample(ids.begin() + static_cast<ptrdiff_t>(at),
                                      ids.begin() + static_cast<ptrdiff_t>(at + length));
    for (size_t i = length; i < 128; ++i) EXPECT_EQ(ids[at + i] + types[at + i] + mask[at + i], 0);
    ASSERT_EQ(sample.front(), kCls);
    ASSERT_EQ(sample.back(), kSep);
    const auto middle = std::find(sample.begin(), sample.end(), kSep);
    const std::vector<int32_t> a(sample.begin() + 1, middle), b(middle + 1, sample.end() - 1);
    ASSERT_GE(a.size(), 1u);
    ASSERT_GE(b.size(), 1u);
    for (size_t i = 0; i < length; ++i) EXPECT_EQ(types[at + i], i > a.size() + 1 ? 1 : 0);
    EXPECT_EQ(document_of(a.front()), document_of(a.back()));
    EXPECT_EQ(document_of(b.front()), document_of(b.back()));
    EXPECT_EQ(document_of(a.front()) != document_of(b.front()), labels[static_cast<size_t>(row)] == 1);
    if (length < 128) {
      if (labels[static_cast<size_t>(row)] == 0) {
        EXPECT_EQ(sentence_of(b.front()), sentence_of(a.back()) + 1);
      }
      continue;
    }
    ++cut;
  }
  EXPECT_GT(cut, 500) << "full ones";

  DataLoader again(pair_config(path, SentencePairSettings::next_sentence), DataSplit::train,
                   {.encoder = &encoder, .cache_directory = directory / "cache", .pad_id = 0});
  const Batch second = loader.next(rows);
  EXPECT_NE(second.input_ids.to_vector<int32_t>(), ids) << "a new epoch has new pairs";
  again.next(rows + 5);
  const std::string state = again.state();
  const std::vector<int32_t> expected = again.next(7).input_ids.to_vector<int32_t>();
  DataLoader resumed(pair_config(path, SentencePairSettings::next_sentence), DataSplit::train,
                     {.encoder = &encoder, .cache_directory = directory / "cache", .pad_id = 0});
  resumed.restore(state);
  EXPECT_EQ(resumed.next(7).input_ids.to_vector<int32_t>(), expected);
  EXPECT_EQ(second.rows(5, 7).input_ids.to_vector<int32_t>(), expected) << "whatever the batch size";
}

TEST(SentencePairs, TruncationTakesFromBothEndsAlike) {
  // One long sentence a document and a pair of it with another: 2 (24 * 5) tokens lose 115.
  const TemporaryDirectory directory;
  std::string text;
  for (int64_t d = 0; d < 6000; ++d) text += concat(d, " 0 120\n\n");
  TextEncoder encoder = place_encoder();
  encoder.encode = [](std::span<const std::string> texts, std::vector<std::vector<int32_t>>& ids) {
    for (const std::string& sentence : texts) {
      auto& tokens = ids.emplace_back();
      if (sentence.empty()) continue;
      for (int32_t i = 0; i < 120; ++i) tokens.push_back(1000 + i);
    }
  };
  DataLoader loader(pair_config(directory.write("c.txt", text), SentencePairSettings::next_sentence), DataSplit::train,
                    {.encoder = &encoder, .cache_directory = directory / "cache"});
  const int64_t rows = loader.samples_per_epoch();
  EXPECT_EQ(rows, 6000);
  const Batch batch = loader.next(rows);
  double front = 0.0, gone = 0.0;
  for (int64_t row = 0; row < rows; ++row) {
    const std::vector<int32_t> ids = batch.input_ids.select(0, row).to_vector<int32_t>();
    const auto middle = std::find(ids.begin(), ids.end(), kSep);
    for (const auto begin : {ids.begin() + 1, middle + 1}) {
      const auto end = std::find(begin, ids.end(), kSep);
      front += *begin - 1000;
      gone += static_cast<double>(120 - (end - begin));
      EXPECT_NEAR(static_cast<double>(end - begin), 62.5, 0.6) << "the longer one loses";
    }
  }
  EXPECT_DOUBLE_EQ(gone, 115.0 * static_cast<double>(rows));
  EXPECT_NEAR(front / gone, 0.5, share_bound(0.5, gone));
}

TEST(SentencePairs, OrderIsSwappedInHalfOfThem) {
  const TemporaryDirectory directory;
  const auto corpus = open_corpus(directory, corpus_text(2000, 40, 0));
  const auto plan = plan_pairs(corpus, plan_settings(SentencePairSettings::sentence_order), 0);
  int64_t swapped = 0, used = 0;
  for (const detail::SentencePair& pair : plan) {
    const auto& first = pair.changed ? pair.b : pair.a;
    const auto& second = pair.changed ? pair.a : pair.b;
    ASSERT_EQ(first.document, second.document);
    ASSERT_EQ(first.first + first.count, second.first);
    swapped += pair.changed;
    used += first.count + second.count;
  }
  const auto n = static_cast<double>(plan.size());
  EXPECT_NEAR(static_cast<double>(swapped) / n, 0.5, share_bound(0.5, n));
  EXPECT_GT(used, 2000 * 39) << "only a last sentence that stands alone is left out";
}

TEST(SentencePairs, WhatCannotWorkIsNamed) {
  const TemporaryDirectory directory;
  const TextEncoder encoder = place_encoder();
  TextEncoder bare = encoder;
  bare.bos_id = -1;
  const auto error = [&](const std::string& text, const TextEncoder& with, SentencePairSettings::Task task) {
    return testing::error_of([&] {
      DataLoader(pair_config(directory.write("e.txt", text), task), DataSplit::train,
                 {.encoder = &with, .cache_directory = directory / "cache"});
    });
  };
  const std::string text = corpus_text(3, 4, 5);
  EXPECT_EQ(error(text, encoder, SentencePairSettings::next_sentence), "no error");
  EXPECT_NE(error(text, bare, SentencePairSettings::next_sentence).find("token before and behind"), std::string::npos);
  EXPECT_NE(error(corpus_text(1, 9, 5), encoder, SentencePairSettings::next_sentence).find("two documents"),
            std::string::npos);
  EXPECT_NE(error(corpus_text(5, 1, 5), encoder, SentencePairSettings::sentence_order).find("shorter than one sample"),
            std::string::npos);
  prepare_tokens(encoder, {directory / "e.txt"}, directory / "plain", {.separator = "blank_line"});
  EXPECT_NE(testing::error_of([&] {
              DataLoader(pair_config(directory / "plain.bin", SentencePairSettings::next_sentence), DataSplit::train,
                         {.encoder = &encoder});
            }).find("sentences of the documents are not known"),
            std::string::npos);
}

}  // namespace
}  // namespace ondol
