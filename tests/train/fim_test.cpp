// Fill in the middle: rates, both orders, and documents that can be put together again.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include <ondol/tokenizer/bpe_trainer.h>

#include "train/corruption.h"

namespace ondol {
namespace {

using namespace testing;

/// Byte-level, with the three sentinels and an end token.
Tokenizer byte_tokenizer() {
  const TemporaryDirectory directory;
  BpeTrainerOptions options;
  options.vocab_size = 290;
  options.special_tokens = {"<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"};
  options.roles["eos"] = "<|endoftext|>";
  return train_bpe_files(
      {directory.write("corpus.txt", "the cat sees the moon and the cat likes the moon \u00fc\u00fc")}, options);
}

struct Infill {
  int32_t end, prefix, middle, suffix;
};
Infill sentinels_of(const Tokenizer& tokenizer) {
  return {*tokenizer.token_to_id("<|endoftext|>"), *tokenizer.token_to_id("<|fim_prefix|>"),
          *tokenizer.token_to_id("<|fim_middle|>"), *tokenizer.token_to_id("<|fim_suffix|>")};
}

/// What a document was before; its form is "plain", "psm" or "spm". The end token is left out.
struct Document {
  std::string form;
  std::vector<int32_t> tokens;
  size_t prefix = 0, middle = 0;
};
Document restore(std::vector<int32_t> ids, const Infill& s) {
  if (!ids.empty() && ids.back() == s.end) ids.pop_back();
  if (ids.empty() || ids[0] != s.prefix) return {"plain", ids};
  const auto suffix = std::find(ids.begin(), ids.end(), s.suffix), middle = std::find(ids.begin(), ids.end(), s.middle);
  if (suffix == ids.end() || middle < suffix) return {"broken", {}};
  Document out;
  std::vector<int32_t> behind(middle + 1, ids.end());
  if (suffix == ids.begin() + 1) {
    out.form = "spm";  // prefix and middle stand together
    out.tokens = behind;
  } else {
    out.form = "psm";
    out.tokens.assign(ids.begin() + 1, suffix);
    out.prefix = out.tokens.size();
    out.middle = behind.size();
    out.tokens.insert(out.tokens.end(), behind.begin(), behind.end());
  }
  out.tokens.insert(out.tokens.end(), suffix + 1, middle);
  return out;
}

/// A row of documents of 40 tokens, the end token behind each; distinct ids.
Batch packed(int64_t rows, int64_t length, int32_t end) {
  std::vector<int32_t> ids, documents;
  for (int64_t i = 0; i < rows * length; ++i) {
    const int64_t place = i % length;
    ids.push_back(place % 40 == 39 ? end : static_cast<int32_t>(400 + place));
    documents.push_back(static_cast<int32_t>(place / 40));
  }
  Batch batch;
  batch.input_ids = Tensor::from_vector(ids, {rows, length});
  batch.labels = batch.input_ids;
  batch.document_ids = Tensor::from_vector(documents, {rows, length});
  batch.positions = batch.document_ids;
  return batch;
}

// Bavarian et al. 2022: a rate of 0.9, half of it with the suffix first.
TEST(Fim, RatesAndRoundTrip) {
  const auto model = decoder();
  const Tokenizer tokenizer = byte_tokenizer();
  const Infill s = sentinels_of(tokenizer);
  Vocabulary words = corruption_vocabulary();
  words.eos_id = s.end;
  const int64_t rows = 2500, length = 400;  // a million tokens
  const auto objective = make_objective(R"({"type": "fim", "split": "token"})");
  const Batch text = packed(rows, length, s.end);
  const Batch out =
      objective->prepare(text, {.model = *model, .vocabulary = &words, .tokenizer = &tokenizer, .seed = 2});
  ASSERT_EQ(out.input_ids.shape(), text.input_ids.shape());
  std::map<std::string, int64_t> forms;
  std::map<size_t, int64_t> prefixes;
  int64_t whole = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const std::vector<int32_t> ids = row_of(out.input_ids, row), documents = row_of(out.document_ids, row);
    const std::vector<int32_t> labels = row_of(out.labels, row), positions = row_of(out.positions, row);
    for (size_t begin = 0; begin < ids.size();) {
      size_t end = begin;
      while (end < ids.size() && documents[end] == documents[begin]) {
        EXPECT_EQ(positions[end], static_cast<int32_t>(end - begin));
        const bool last = end + 1 == ids.size() || documents[end + 1] != documents[begin];
        EXPECT_EQ(labels[end], last ? kIgnoreIndex : ids[end + 1]) << "every token is predicted";
        ++end;
      }
      const Document document =
          restore({ids.begin() + static_cast<ptrdiff_t>(begin), ids.begin() + static_cast<ptrdiff_t>(end)}, s);
      ASSERT_NE(document.form, "broken");
      const int32_t first = 400 + 40 * documents[begin];
      for (size_t i = 0; i < document.tokens.size(); ++i) {
        ASSERT_EQ(document.tokens[i], first + static_cast<int32_t>(i));
      }
      if (document.tokens.size() == 39) {  // the last ones make room for the sentinels
        ++whole;
        ++forms[document.form];
        if (document.form == "psm") ++prefixes[document.prefix];
      }
      begin = end;
    }
  }
  // Nine of ten documents gain three tokens: 27 of 400 that the last document loses.
  EXPECT_GE(whole, rows * 9);
  const auto all = static_cast<double>(whole), changed = static_cast<double>(forms["psm"] + forms["spm"]);
  EXPECT_NEAR(changed / all, 0.9, share_bound(0.9, all));
  // The lesser of two places, each of 0 ... 39 equally likely. With an empty prefix both orders look alike.
  const auto lesser = [](size_t k) {
    const double above = static_cast<double>(39 - k) / 40.0, from = static_cast<double>(40 - k) / 40.0;
    return from * from - above * above;
  };
  const double suffix_first = 0.5 + 0.5 * lesser(0);
  EXPECT_NEAR(static_cast<double>(forms["spm"]) / changed, suffix_first, share_bound(suffix_first, changed));
  const auto n = static_cast<double>(forms["psm"]);
  for (size_t k = 1; k <= 39; ++k) {
    const double p = lesser(k) / (1.0 - lesser(0));
    EXPECT_NEAR(static_cast<double>(prefixes[k]) / n, p, share_bound(p, n)) << k;
  }
}

TEST(Fim, CutsAtCharactersOfTheText) {
  const auto model = decoder();
  const Tokenizer tokenizer = byte_tokenizer();
  const Vocabulary words = make_vocabulary(tokenizer);
  const Infill s = sentinels_of(tokenizer);
  const std::string text = "the cat \u00fc likes the moon \u00fc\u00fc and";
  std::vector<int32_t> ids = tokenizer.encode(text);
  ids.push_back(s.end);
  const auto used = static_cast<int64_t>(ids.size());
  ids.resize(64, 0);
  std::vector<uint8_t> mask(64, 0);
  std::fill_n(mask.begin(), used, uint8_t{1});
  Batch batch;
  batch.input_ids = Tensor::from_vector(ids, {1, 64});
  batch.attention_mask = Tensor::from_vector(mask, {1, 64});
  const auto objective = make_objective(R"({"type": "fim", "fim_rate": 1})");
  std::map<std::string, int64_t> prefixes;
  for (int64_t sample = 0; sample < 3000; ++sample) {
    batch.first_sample = sample;
    const Batch out = objective->prepare(batch, {.model = *model, .vocabulary = &words, .tokenizer = &tokenizer});
    const std::vector<uint8_t> visible = out.attention_mask.to_vector<uint8_t>();
    std::vector<int32_t> row = row_of(out.input_ids, 0);
    row.resize(static_cast<size_t>(std::count(visible.begin(), visible.end(), 1)));
    EXPECT_EQ(row.back(), s.end);
    const Document document = restore(row, s);
    EXPECT_EQ(tokenizer.decode(document.tokens), text);
    if (document.form != "psm") continue;
    const std::vector<int32_t> prefix(document.tokens.begin(),
                                      document.tokens.begin() + static_cast<ptrdiff_t>(document.prefix));
    ++prefixes[tokenizer.decode(prefix)];
  }
  // Every prefix of whole characters occurs: 29 characters, 30 places.
  EXPECT_EQ(prefixes.size(), 30u);
  EXPECT_TRUE(prefixes.contains("the c")) << "inside of a token";
  for (const auto& [prefix, count] : prefixes) {
    EXPECT_TRUE(prefix.empty() || prefix.back() != '\xc3') << "half of a character";
  }
}

TEST(Fim, RefusesWhatDoesNotFit) {
  const auto gpt = decoder(), t5 = encoder_decoder();
  const Tokenizer tokenizer = byte_tokenizer();
  const Vocabulary words = make_vocabulary(tokenizer);
  const Batch text = counting_samples(1, 40);
  EXPECT_EQ(refusal(R"({"type": "fim"})", *gpt, &words, text, &tokenizer), "");
  EXPECT_NE(refusal(R"({"type": "fim"})", *t5, &words, text, &tokenizer).find("not a t5 model"), std::string::npos);
  EXPECT_NE(refusal(R"({"type": "fim"})", *gpt, nullptr, text).find("tokenizer.path"), std::string::npos);
  EXPECT_NE(refusal(R"({"type": "fim", "suffix_token": "<SUF>"})", *gpt, &words, text, &tokenizer)
                .find("no token \"<SUF>\" (objective.suffix_token)"),
            std::string::npos);
  EXPECT_THROW(make_objective(R"({"type": "fim", "fim_rate": 1.5})"), UsageError);
}

}  // namespace
}  // namespace ondol
