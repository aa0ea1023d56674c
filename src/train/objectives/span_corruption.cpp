// Span corruption (Raffel et al. 2020, "T5"): noise_density of the tokens, in spans of mean_span_length on average, are
// cut out. The encoder reads the rest with a sentinel in the place of each span, the decoder predicts each sentinel and
// what stood there; both end with the end token (span_noise.h).
//
// data.sequence_length is the exact length of the inputs: as many tokens are read for a sample as leave that length
// (568 for 512, with targets of 114).
#include "train/objectives/objectives.h"
#include "train/objectives/span_noise.h"

namespace ondol {

namespace {

constexpr uint32_t kStream = 0x53504E00;
constexpr const char* kName = "span_corruption";

class SpanCorruption final : public Objective {
 public:
  explicit SpanCorruption(const JsonReader& section) {
    noise_.density =
        section.get<double>("noise_density", 0.15, {.low = 0.0, .high = 1.0, .low_open = true, .high_open = true});
    noise_.mean_length = section.get<double>("mean_span_length", 3.0, at_least(1.0));
  }

  std::string settings() const override {
    return Json{{"type", kName}, {"noise_density", noise_.density}, {"mean_span_length", noise_.mean_length}}.dump();
  }

  int64_t tokens_per_sample(int64_t sequence_length) const override { return noise_.tokens_for(sequence_length); }

  void check_samples(const Batch& example, const ObjectiveContext& context) const override {
    require_encoder_decoder(kName, context.model);
    require_text(kName, example);
    refuse_document_mask(kName, example);
    require_sentinels(kName, noise_, example.input_ids.size(1), context);
  }

  Batch prepare(Batch batch, const ObjectiveContext& context) const override {
    TokenRows inputs, targets;
    int64_t sample = batch.first_sample;
    for (TokenRow& tokens : token_rows(batch)) {
      SampleDraws draws(context.seed, kStream, sample++);
      noise_.corrupt(std::move(tokens), *context.vocabulary, draws, inputs.emplace_back(), targets.emplace_back());
    }
    return Objective::prepare(source_target_batch(inputs, targets, batch.first_sample, context), context);
  }

 private:
  SpanNoise noise_;
};

}  // namespace

std::unique_ptr<Objective> objectives::make_span_corruption(const JsonReader& section) {
  return std::make_unique<SpanCorruption>(section);
}

}  // namespace ondol
