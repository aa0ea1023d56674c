// Prefix language modelling: where texts are cut, and what is predicted from what.
#include <gtest/gtest.h>

#include <map>

#include "train/corruption.h"

namespace ondol {
namespace {

using namespace testing;

TEST(PrefixLm, EncoderDecodersReadThePrefixAndWriteTheRest) {
  const auto model = encoder_decoder();
  const Vocabulary words = corruption_vocabulary();
  const int64_t rows = 25000, length = 41;  // a million tokens
  const Batch text = counting_samples(rows, length);
  const Batch out = make_objective(R"({"type": "prefix_lm"})")->prepare(text, {.model = *model, .vocabulary = &words});
  std::map<size_t, int64_t> prefixes;
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<int32_t> merged = row_without(out.input_ids, row, kPad);
    const std::vector<int32_t> target = row_without(out.labels, row, kIgnoreIndex);
    ++prefixes[merged.size()];
    merged.insert(merged.end(), target.begin(), target.end() - 1);
    ASSERT_EQ(merged, row_of(text.input_ids, row));
    ASSERT_EQ(target.back(), kEnd);
  }
  for (size_t prefix = 1; prefix <= 40; ++prefix) {
    EXPECT_NEAR(static_cast<double>(prefixes[prefix]) / rows, 1.0 / 40.0, share_bound(1.0 / 40.0, rows)) << prefix;
  }
  EXPECT_EQ(prefixes.size(), 40u);
}

TEST(PrefixLm, DecodersHaveAPrefixInEachDocument) {
  const auto model = decoder();
  const int64_t rows = 2000;
  std::vector<int32_t> ids, documents, labels;
  for (int64_t i = 0; i < rows * 30; ++i) {  // documents of 20 and 10 tokens
    const auto place = static_cast<int32_t>(i % 30);
    ids.push_back(100 + place);
    documents.push_back(place < 20 ? 0 : 1);
    labels.push_back(place == 19 ? kIgnoreIndex : 101 + place);  // that of the last one lies behind the sample
  }
  Batch batch;
  batch.input_ids = Tensor::from_vector(ids, {rows, 30});
  batch.document_ids = Tensor::from_vector(documents, {rows, 30});
  batch.labels = Tensor::from_vector(labels, {rows, 30});
  const Batch out = make_objective(R"({"type": "prefix_lm"})")->prepare(batch, {.model = *model});
  EXPECT_EQ(out.input_ids.to_vector<int32_t>(), ids);
  std::map<int64_t, int64_t> first, second;
  for (int64_t row = 0; row < rows; ++row) {
    const std::vector<int32_t> targets = row_of(out.labels, row);
    const auto prefix_of = [&](int64_t begin, int64_t end) {
      int64_t at = begin;
      while (at < end && targets[static_cast<size_t>(at)] == kIgnoreIndex) ++at;
      for (int64_t i = at; i < end; ++i) {
        EXPECT_EQ(targets[static_cast<size_t>(i)], labels[static_cast<size_t>(i)]) << "all behind the prefix count";
      }
      return at - begin + 1;
    };
    ++first[prefix_of(0, 20)];
    ++second[prefix_of(20, 30)];
  }
  for (int64_t prefix = 1; prefix < 20; ++prefix) {
    EXPECT_NEAR(static_cast<double>(first[prefix]) / rows, 1.0 / 19.0, share_bound(1.0 / 19.0, rows)) << prefix;
  }
  EXPECT_EQ(first.size(), 19u);
  EXPECT_EQ(second.size(), 9u);
}

TEST(PrefixLm, TheShareOfThePrefixHasBounds) {
  const auto model = encoder_decoder();
  const Vocabulary words = corruption_vocabulary();
  const auto objective = make_objective(R"({"type": "prefix_lm", "min_prefix": 0.5, "max_prefix": 0.75})");
  const Batch out = objective->prepare(counting_samples(500, 40), {.model = *model, .vocabulary = &words});
  size_t least = 40, most = 0;
  for (int64_t row = 0; row < 500; ++row) {
    const size_t prefix = row_without(out.input_ids, row, kPad).size();
    least = std::min(least, prefix);
    most = std::max(most, prefix);
  }
  EXPECT_EQ(least, 20u);
  EXPECT_EQ(most, 30u);
  const auto fixed = make_objective(R"({"type": "prefix_lm", "min_prefix": 0.5, "max_prefix": 0.5})");
  const Batch half = fixed->prepare(counting_samples(5, 40), {.model = *model, .vocabulary = &words});
  EXPECT_EQ(half.input_ids.shape(), (Shape{5, 20}));
}

TEST(PrefixLm, RefusesWhatDoesNotFit) {
  const auto t5 = encoder_decoder(), gpt = decoder(), bert = encoder();
  const Vocabulary words = corruption_vocabulary();
  const Batch text = counting_samples(1, 40);
  const std::string settings = R"({"type": "prefix_lm"})";
  EXPECT_EQ(refusal(settings, *t5, &words, text), "");
  EXPECT_EQ(refusal(settings, *gpt, nullptr, text), "");
  EXPECT_NE(refusal(settings, *bert, &words, text).find("needs a decoder or an encoder-decoder"), std::string::npos);
  EXPECT_NE(refusal(settings, *t5, nullptr, text).find("end token"), std::string::npos);
  EXPECT_THROW(make_objective(R"({"type": "prefix_lm", "min_prefix": 0.8, "max_prefix": 0.5})"), UsageError);
}

}  // namespace
}  // namespace ondol
