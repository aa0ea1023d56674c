// BART's noising: lengths of spans against the Poisson distribution, and that nothing is lost but what should be.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "train/corruption.h"

namespace ondol {
namespace {

using namespace testing;

struct Damaged {
  std::vector<std::vector<int32_t>> sources, targets;  // without padding and end token
};

Damaged run(const std::string& settings, const Batch& batch, const Vocabulary& words, uint64_t seed = 5) {
  static const std::unique_ptr<Model> model = encoder_decoder();
  const Batch out = make_objective(settings)->prepare(batch, {.model = *model, .vocabulary = &words, .seed = seed});
  Damaged damaged;
  for (int64_t row = 0; row < out.size(); ++row) {
    damaged.sources.push_back(row_without(out.input_ids, row, kPad));
    damaged.targets.push_back(row_without(out.labels, row, kIgnoreIndex));
    for (auto* ids : {&damaged.sources.back(), &damaged.targets.back()}) {
      EXPECT_EQ(ids->back(), kEnd);
      ids->pop_back();
    }
    EXPECT_EQ(damaged.targets.back(), row_of(batch.input_ids, row)) << "the decoder writes the original";
  }
  return damaged;
}

// Lewis et al. 2020, section 2.2: lengths from a Poisson distribution of mean 3, each span one mask token, spans of
// length 0 insert one; 30 % of the tokens are hidden (section 5.1).
TEST(Bart, InfillingFollowsThePoissonDistribution) {
  const int64_t rows = 250, length = 4000;  // a million tokens
  const Damaged damaged =
      run(R"({"type": "bart", "sentence_permutation": 0})", counting_samples(rows, length), corruption_vocabulary());
  std::map<int64_t, int64_t> counts;
  double spans = 0.0, tokens = 0.0;
  for (const std::vector<int32_t>& source : damaged.sources) {
    int64_t kept = 0;
    for (size_t i = 0; i < source.size(); ++i) {
      if (source[i] != kMask) {
        ++kept;
        continue;
      }
      // Of masks in a row only the sum is known; which ones stand alone does not depend on their length.
      const bool alone = (i == 0 || source[i - 1] != kMask) && (i + 1 == source.size() || source[i + 1] != kMask);
      if (!alone) continue;
      const int64_t before = i == 0 ? kFirstText - 1 : source[i - 1];
      const int64_t after = i + 1 == source.size() ? kFirstText + length : source[i + 1];
      ++counts[after - before - 1];
      spans += 1.0;
      tokens += static_cast<double>(after - before - 1);
    }
    EXPECT_EQ(kept, length * 7 / 10) << "exactly 30 % are hidden";
    EXPECT_TRUE(std::is_sorted(source.begin(), source.end(),
                               [](int32_t a, int32_t b) { return a != kMask && b != kMask && a < b; }));
  }
  EXPECT_GT(spans, 70000.0);
  EXPECT_NEAR(tokens / spans, 3.0, 4.5 * std::sqrt(3.0 / spans));
  double p = std::exp(-3.0);  // of length 0: a mask where nothing was
  for (int64_t n = 0; n <= 12; ++n) {
    EXPECT_NEAR(static_cast<double>(counts[n]) / spans, p, share_bound(p, spans)) << "length " << n;
    p *= 3.0 / static_cast<double>(n + 1);
  }
}

TEST(Bart, EveryPlaceIsHiddenEquallyOften) {
  const int64_t rows = 5000, length = 200;  // a million tokens
  const Damaged damaged =
      run(R"({"type": "bart", "sentence_permutation": 0})", counting_samples(rows, length), corruption_vocabulary());
  std::vector<double> hidden(static_cast<size_t>(length), 1.0);
  for (const auto& source : damaged.sources) {
    for (const int32_t id : source) {
      if (id != kMask) hidden[static_cast<size_t>(id - kFirstText)] -= 1.0 / static_cast<double>(rows);
    }
  }
  // Fewer spans reach the first and last tokens: a span of n tokens has N - n + 1 places in N.
  double inside = 0.0;
  for (size_t i = 20; i < 180; ++i) inside += hidden[i] / 160.0;
  EXPECT_NEAR(inside, 0.3, 0.01);
  for (size_t i = 20; i < 180; ++i) EXPECT_NEAR(hidden[i], inside, share_bound(0.3, rows)) << i;
}

TEST(Bart, MaskingAndDeletionChooseExactShares) {
  const int64_t rows = 2500, length = 400;  // a million tokens
  const Vocabulary words = corruption_vocabulary();
  const std::string none = R"({"type": "bart", "sentence_permutation": 0, "text_infilling": 0, )";
  const Damaged masked = run(none + R"("token_masking": 0.15})", counting_samples(rows, length), words);
  const Damaged shortened = run(none + R"("token_deletion": 0.15})", counting_samples(rows, length), words);
  std::vector<int64_t> masks(static_cast<size_t>(length)), kept(static_cast<size_t>(length));
  for (int64_t row = 0; row < rows; ++row) {
    const auto& with_masks = masked.sources[static_cast<size_t>(row)];
    ASSERT_EQ(with_masks.size(), 400u);
    EXPECT_EQ(std::count(with_masks.begin(), with_masks.end(), kMask), 60);
    for (size_t i = 0; i < with_masks.size(); ++i) {
      masks[i] += with_masks[i] == kMask;
      EXPECT_TRUE(with_masks[i] == kMask || with_masks[i] == kFirstText + static_cast<int32_t>(i));
    }
    const auto& left = shortened.sources[static_cast<size_t>(row)];
    EXPECT_EQ(left.size(), 340u);
    EXPECT_TRUE(std::is_sorted(left.begin(), left.end()));
    for (const int32_t id : left) ++kept[static_cast<size_t>(id - kFirstText)];
  }
  for (size_t i = 0; i < masks.size(); ++i) {
    EXPECT_NEAR(static_cast<double>(masks[i]) / static_cast<double>(rows), 0.15, share_bound(0.15, rows)) << i;
    EXPECT_NEAR(static_cast<double>(kept[i]) / static_cast<double>(rows), 0.85, share_bound(0.85, rows)) << i;
  }
}

TEST(Bart, SentencesChangePlaces) {
  const int64_t rows = 12000, length = 30;  // sentences 20 ... 29, 30 ... 39, 40 ... 49
  const Damaged damaged =
      run(R"({"type": "bart", "text_infilling": 0})", counting_samples(rows, length), corruption_vocabulary());
  std::map<std::vector<int32_t>, int64_t> orders;
  for (const auto& source : damaged.sources) {
    std::vector<int32_t> order;
    for (size_t i = 0; i < source.size(); ++i) {
      if (i % 10 == 0) order.push_back(source[i]);
      EXPECT_EQ(source[i] - source[i / 10 * 10], static_cast<int32_t>(i % 10)) << "sentences stay whole";
    }
    ++orders[order];
  }
  ASSERT_EQ(orders.size(), 6u);
  for (const auto& [order, count] : orders) {
    EXPECT_NEAR(static_cast<double>(count) / static_cast<double>(rows), 1.0 / 6.0, share_bound(1.0 / 6.0, rows));
  }
}

TEST(Bart, RotationBeginsAnywhere) {
  const int64_t rows = 20000, length = 50;
  const Damaged damaged =
      run(R"({"type": "bart", "text_infilling": 0, "sentence_permutation": 0, "document_rotation": 1})",
          counting_samples(rows, length), corruption_vocabulary());
  std::vector<int64_t> first(static_cast<size_t>(length));
  for (const auto& source : damaged.sources) {
    std::vector<int32_t> back = source;
    std::rotate(back.begin(), std::min_element(back.begin(), back.end()), back.end());
    EXPECT_TRUE(std::is_sorted(back.begin(), back.end()));
    EXPECT_EQ(back.size(), 50u);
    ++first[static_cast<size_t>(source[0] - kFirstText)];
  }
  for (const int64_t count : first) {
    EXPECT_NEAR(static_cast<double>(count) / static_cast<double>(rows), 0.02, share_bound(0.02, rows));
  }
}

TEST(Bart, DocumentsKeepTheirSpecialTokensAndWordsStayWhole) {
  Vocabulary words = corruption_vocabulary();
  words.frame_begin = kBegin;
  words.frame_end = kEnd;
  std::vector<int32_t> ids = {kBegin};  // <s> 20 ... 218 </s> <s> 300 ... 498: the second goes on behind the sample
  for (int32_t id = 20; id < 219; ++id) ids.push_back(id);
  ids.insert(ids.end(), {kEnd, kBegin});
  for (int32_t id = 300; id < 498; ++id) ids.push_back(id);
  Batch batch;
  batch.input_ids = Tensor::from_vector(ids, {1, 400});
  static const std::unique_ptr<Model> model = encoder_decoder();
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const auto objective = make_objective(R"({"type": "bart", "whole_words": true, "document_rotation": 0.5})");
    const Batch out = objective->prepare(batch, {.model = *model, .vocabulary = &words, .seed = seed});
    std::vector<int32_t> target = ids;
    target.push_back(kEnd);
    EXPECT_EQ(row_of(out.labels, 0), target);
    const std::vector<int32_t> source = row_of(out.input_ids, 0);
    EXPECT_EQ(source.front(), kBegin);
    EXPECT_EQ(source.back(), kEnd);
    const auto middle = std::find(source.begin(), source.end(), kEnd);
    EXPECT_EQ(middle[1], kBegin);
    for (auto i = source.begin() + 1; i < source.end() - 1; ++i) {
      if (*i < kFirstText) continue;
      EXPECT_EQ(i < middle, *i < 300) << "no token goes to another document";
    }
  }
  // Words are pairs of an even and an odd id: without anything else that moves tokens none is torn.
  const Damaged whole = run(R"({"type": "bart", "whole_words": true, "sentence_permutation": 0})",
                            counting_samples(50, 400), corruption_vocabulary());
  for (const auto& source : whole.sources) {
    for (size_t i = 0; i < source.size(); ++i) {
      if (source[i] == kMask || source[i] % 2 == 1) continue;
      ASSERT_LT(i + 1, source.size());
      EXPECT_EQ(source[i + 1], source[i] + 1);
    }
  }
}

TEST(Bart, DependsOnSeedAndSampleAlone) {
  const Vocabulary words = corruption_vocabulary();
  const std::string settings = R"({"type": "bart", "token_masking": 0.1, "token_deletion": 0.1})";
  const Damaged together = run(settings, counting_samples(6, 100, 40), words);
  const auto alone = [&](int64_t sample, uint64_t seed) {
    return run(settings, counting_samples(1, 100, sample), words, seed).sources[0];
  };
  EXPECT_EQ(alone(42, 5), together.sources[2]);
  EXPECT_NE(alone(43, 5), together.sources[2]);
  EXPECT_NE(alone(42, 6), together.sources[2]);
}

TEST(Bart, TargetsFillTheSequence) {
  Vocabulary words = corruption_vocabulary();
  words.frame_begin = kBegin;
  words.frame_end = kEnd;
  const auto objective = make_objective(R"({"type": "bart"})");
  const auto model = encoder_decoder();
  const int64_t read = objective->tokens_per_sample(512);
  const Batch out = objective->prepare(counting_samples(64, read), {.model = *model, .vocabulary = &words, .seed = 1});
  EXPECT_EQ(out.labels.shape(), (Shape{64, 512}));
  EXPECT_GE(static_cast<double>(out.count_tokens()),
            0.97 * static_cast<double>(out.input_ids.numel() + out.labels.numel()));
}

TEST(Bart, RefusesWhatDoesNotFit) {
  const auto model = encoder_decoder(), bert = encoder();
  Vocabulary words = corruption_vocabulary();
  const std::string settings = R"({"type": "bart"})";
  const Batch samples = counting_samples(1, 40);
  EXPECT_EQ(refusal(settings, *model, &words, samples), "");
  EXPECT_NE(refusal(settings, *bert, &words, samples).find("needs an encoder-decoder, not a bert model"),
            std::string::npos);
  EXPECT_NE(refusal(settings, *model, nullptr, samples).find("tokenizer.path"), std::string::npos);
  words.mask_id.reset();
  EXPECT_NE(refusal(settings, *model, &words, samples).find("objective.mask_token_id"), std::string::npos);
  EXPECT_EQ(refusal(R"({"type": "bart", "mask_token_id": 4})", *model, &words, samples), "");
  EXPECT_EQ(refusal(R"({"type": "bart", "text_infilling": 0})", *model, &words, samples), "");
  EXPECT_THROW(make_objective(R"({"type": "bart", "text_infilling": 0, "sentence_permutation": 0})"), UsageError);
  EXPECT_THROW(make_objective(R"({"type": "bart", "poisson_lambda": 0})"), UsageError);
}

}  // namespace
}  // namespace ondol
