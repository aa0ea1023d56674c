// Denoising (Lewis et al. 2020, "BART"): the encoder reads a damaged text, the decoder writes the original. What
// damages it, in this order, each as far as its setting is above 0:
//
//   sentence_permutation  this share of a document's sentences change places
//   text_infilling        spans that hold this share of the tokens, their lengths Poisson (poisson_lambda), become one
//                         mask token each; spans of length 0 put a mask token between two tokens
//   token_masking         this share of the tokens become the mask token, one by one
//   token_deletion        this share of the tokens are left out
//   document_rotation     with this probability a document begins at a random token and wraps around
//
// Special tokens stay where they are; the text between them is what is called a document here.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/sample_draws.h"
#include "train/objectives/objectives.h"
#include "train/objectives/token_rows.h"

namespace ondol {

namespace {

constexpr uint32_t kStream = 0x42415200;
constexpr const char* kName = "bart";

/// `count` of `items` places, all sets equally likely, ascending.
std::vector<bool> choose_places(size_t items, int64_t count, SampleDraws& draws) {
  std::vector<size_t> order(items);
  std::iota(order.begin(), order.end(), size_t{0});
  std::vector<bool> chosen(items);
  for (int64_t i = 0; i < count; ++i) {  // the first steps of a shuffle
    const auto at = static_cast<size_t>(i);
    std::swap(order[at], order[at + static_cast<size_t>(draws.below(static_cast<int64_t>(items - at)))]);
    chosen[order[at]] = true;
  }
  return chosen;
}

int64_t share_of(size_t items, double share) { return std::llround(share * static_cast<double>(items)); }

class BartDenoising final : public Objective {
 public:
  explicit BartDenoising(const JsonReader& section) {
    infilling_ = section.get<double>("text_infilling", 0.3, between(0.0, 1.0));
    lambda_ = section.get<double>("poisson_lambda", 3.0, {.low = 0.0, .high = 100.0, .low_open = true});
    permutation_ = section.get<double>("sentence_permutation", 1.0, between(0.0, 1.0));
    masking_ = section.get<double>("token_masking", 0.0, between(0.0, 1.0));
    deletion_ = section.get<double>("token_deletion", 0.0, between(0.0, 1.0));
    rotation_ = section.get<double>("document_rotation", 0.0, between(0.0, 1.0));
    whole_words_ = section.get<bool>("whole_words", false);
    if (section.has("mask_token_id")) mask_token_id_ = section.require<int32_t>("mask_token_id", at_least(0));
    section.accept("mask_token_id");
    if (infilling_ + permutation_ + masking_ + deletion_ + rotation_ == 0.0) {
      section.fail("text_infilling", "with every other corruption 0 too, nothing is left to learn");
    }
  }

  std::string settings() const override {
    Json out = {{"type", kName},
                {"text_infilling", infilling_},
                {"poisson_lambda", lambda_},
                {"sentence_permutation", permutation_},
                {"token_masking", masking_},
                {"token_deletion", deletion_},
                {"document_rotation", rotation_},
                {"whole_words", whole_words_}};
    if (mask_token_id_) out["mask_token_id"] = *mask_token_id_;
    return out.dump();
  }

  /// With the tokens that stand around a text, the targets have the length of the sequence.
  int64_t tokens_per_sample(int64_t sequence_length) const override {
    return std::max<int64_t>(sequence_length - 2, 1);
  }

  void check_samples(const Batch& example, const ObjectiveContext& context) const override {
    require_encoder_decoder(kName, context.model);
    require_text(kName, example);
    refuse_document_mask(kName, example);
    if (context.vocabulary == nullptr) {
      throw UsageError(
          concat("objective \"", kName,
                 "\" needs a tokenizer, to know special tokens and the ends of sentences (tokenizer.path)"));
    }
    if (!context.vocabulary->frame_end) require_end_token(kName, context);
    if (infilling_ > 0.0 || masking_ > 0.0) mask_token(kName, mask_token_id_, context);
  }

  Batch prepare(Batch batch, const ObjectiveContext& context) const override {
    const Vocabulary& vocabulary = *context.vocabulary;
    const int32_t mask = infilling_ > 0.0 || masking_ > 0.0 ? mask_token(kName, mask_token_id_, context) : -1;
    const std::optional<int32_t> begin = vocabulary.frame_begin;
    const int32_t end = vocabulary.frame_end ? *vocabulary.frame_end : *vocabulary.eos_id;
    TokenRows sources, targets;
    int64_t sample = batch.first_sample;
    for (TokenRow& tokens : token_rows(batch)) {
      SampleDraws draws(context.seed, kStream, sample++);
      if (begin && !tokens.empty() && tokens.front() == *begin) tokens.erase(tokens.begin());
      if (!tokens.empty() && tokens.back() == end) tokens.pop_back();
      TokenRow& source = sources.emplace_back();
      TokenRow& target = targets.emplace_back();
      if (begin) source.push_back(*begin);
      target = source;
      for (size_t i = 0; i < tokens.size();) {
        size_t next = i;
        while (next < tokens.size() && !vocabulary.is_special(tokens[next])) ++next;
        const TokenRow damaged =
            damage({tokens.begin() + static_cast<ptrdiff_t>(i), tokens.begin() + static_cast<ptrdiff_t>(next)}, mask,
                   vocabulary, draws);
        source.insert(source.end(), damaged.begin(), damaged.end());
        if (next < tokens.size()) source.push_back(tokens[next++]);
        i = next;
      }
      target.insert(target.end(), tokens.begin(), tokens.end());
      source.push_back(end);
      target.push_back(end);
    }
    return Objective::prepare(source_target_batch(sources, targets, batch.first_sample, context), context);
  }

 private:
  TokenRow damage(TokenRow tokens, int32_t mask, const Vocabulary& vocabulary, SampleDraws& draws) const {
    if (tokens.empty()) return tokens;
    if (permutation_ > 0.0) tokens = permute_sentences(tokens, vocabulary, draws);
    if (infilling_ > 0.0) tokens = infill(tokens, mask, vocabulary, draws);
    if (masking_ > 0.0) {
      const auto chosen = choose_places(tokens.size(), share_of(tokens.size(), masking_), draws);
      for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = chosen[i] ? mask : tokens[i];
    }
    if (deletion_ > 0.0) {
      const auto chosen = choose_places(tokens.size(), share_of(tokens.size(), deletion_), draws);
      TokenRow kept;
      for (size_t i = 0; i < tokens.size(); ++i) {
        if (!chosen[i]) kept.push_back(tokens[i]);
      }
      tokens = std::move(kept);
    }
    if (static_cast<double>(draws.uniform()) < rotation_ && !tokens.empty()) {
      std::rotate(tokens.begin(), tokens.begin() + draws.below(static_cast<int64_t>(tokens.size())), tokens.end());
    }
    return tokens;
  }

  TokenRow permute_sentences(const TokenRow& tokens, const Vocabulary& vocabulary, SampleDraws& draws) const {
    std::vector<TokenRow> sentences(1);
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0 && vocabulary.ends_a_sentence(tokens[i - 1]) && !vocabulary.ends_a_sentence(tokens[i])) {
        sentences.emplace_back();
      }
      sentences.back().push_back(tokens[i]);
    }
    const int64_t count = share_of(sentences.size(), permutation_);
    const std::vector<bool> chosen = choose_places(sentences.size(), count, draws);
    std::vector<size_t> moved;
    for (size_t s = 0; s < sentences.size(); ++s) {
      if (chosen[s]) moved.push_back(s);
    }
    draws.shuffle(moved);
    TokenRow out;
    size_t next = 0;
    for (size_t s = 0; s < sentences.size(); ++s) {
      const TokenRow& sentence = sentences[chosen[s] ? moved[next++] : s];
      out.insert(out.end(), sentence.begin(), sentence.end());
    }
    return out;
  }

  /// Spans of tokens, or of words, that share none; kept pieces and spans in random order, all orders equally likely.
  TokenRow infill(const TokenRow& tokens, int32_t mask, const Vocabulary& vocabulary, SampleDraws& draws) const {
    std::vector<size_t> pieces;  // where each begins
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (!whole_words_ || i == 0 || !vocabulary.goes_on(tokens[i])) pieces.push_back(i);
    }
    const int64_t hidden = share_of(pieces.size(), infilling_);
    std::vector<int64_t> lengths;
    for (int64_t left = hidden; left > 0; left -= lengths.back())
      lengths.push_back(std::min(draws.poisson(lambda_), left));
    std::vector<uint8_t> is_span(pieces.size() - static_cast<size_t>(hidden), 0);
    is_span.insert(is_span.end(), lengths.size(), uint8_t{1});
    draws.shuffle(is_span);
    pieces.push_back(tokens.size());
    TokenRow out;
    size_t piece = 0, span = 0;
    for (const uint8_t hides : is_span) {
      if (hides != 0) {
        out.push_back(mask);
        piece += static_cast<size_t>(lengths[span++]);
        continue;
      }
      out.insert(out.end(), tokens.begin() + static_cast<ptrdiff_t>(pieces[piece]),
                 tokens.begin() + static_cast<ptrdiff_t>(pieces[piece + 1]));
      ++piece;
    }
    return out;
  }

  double infilling_, lambda_, permutation_, masking_, deletion_, rotation_;
  bool whole_words_;
  std::optional<int32_t> mask_token_id_;
};

}  // namespace

std::unique_ptr<Objective> objectives::make_bart(const JsonReader& section) {
  return std::make_unique<BartDenoising>(section);
}

}  // namespace ondol
