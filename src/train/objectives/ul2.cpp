// Mixture of denoisers (Tay et al. 2022, "UL2"): each sample is given to one of several kinds of span corruption, drawn
// by weight. (mean span, density) of the paper's mixture:
//
//   R  regular      (3, 0.15), (8, 0.15)
//   S  sequential   the last quarter of the text is the target
//   X  extreme      (3, 0.5), (8, 0.5), (64, 0.15), (64, 0.5)
//
// mode_tokens, where given, are put before the inputs: which kind of denoiser is at work. Inputs have the exact length
// data.sequence_length whatever the denoiser: text is read for the one that needs most of it, the others take a window
// of it at a random place.
#include <algorithm>

#include "train/objectives/objectives.h"
#include "train/objectives/span_noise.h"

namespace ondol {

namespace {

constexpr uint32_t kStream = 0x554C3200;
constexpr const char* kName = "ul2";
constexpr const char* kModes[] = {"R", "S", "X"};

struct Denoiser {
  SpanNoise noise;
  size_t mode = 0;  // of kModes
  double weight = 1.0;
};

constexpr Denoiser kPaper[] = {{{0.15, 3.0, false}, 0, 1.0}, {{0.15, 8.0, false}, 0, 1.0},
                               {{0.25, 0.0, true}, 1, 1.0},  {{0.5, 3.0, false}, 2, 1.0},
                               {{0.5, 8.0, false}, 2, 1.0},  {{0.15, 64.0, false}, 2, 1.0},
                               {{0.5, 64.0, false}, 2, 1.0}};

Denoiser read_denoiser(const JsonReader& entry) {
  Denoiser denoiser;
  const std::string mode = entry.require_enum("mode", {std::begin(kModes), std::end(kModes)});
  denoiser.mode = static_cast<size_t>(std::find(std::begin(kModes), std::end(kModes), mode) - std::begin(kModes));
  denoiser.noise.single = mode == "S";
  denoiser.noise.density =
      entry.require<double>("noise_density", {.low = 0.0, .high = 1.0, .low_open = true, .high_open = true});
  if (denoiser.noise.single) {
    if (entry.has("mean_span_length")) entry.fail("mean_span_length", "mode S has one span: the end of the text");
    entry.accept("mean_span_length");
  } else {
    denoiser.noise.mean_length = entry.require<double>("mean_span_length", at_least(1.0));
  }
  denoiser.weight = entry.get<double>("weight", 1.0, above(0.0));
  return denoiser;
}

class MixtureOfDenoisers final : public Objective {
 public:
  explicit MixtureOfDenoisers(const JsonReader& section) {
    for (const JsonReader& entry : section.children("denoisers")) denoisers_.push_back(read_denoiser(entry));
    if (denoisers_.empty()) denoisers_.assign(std::begin(kPaper), std::end(kPaper));
    mode_tokens_ = section.get<std::vector<std::string>>("mode_tokens", {});
    if (!mode_tokens_.empty() && mode_tokens_.size() != std::size(kModes)) {
      section.fail("mode_tokens", "must be none or three, for the modes R, S and X",
                   R"(for example ["[NLU]", "[S2S]", "[NLG]"])");
    }
  }

  std::string settings() const override {
    Json denoisers = Json::array();
    for (const Denoiser& denoiser : denoisers_) {
      Json entry = {
          {"mode", kModes[denoiser.mode]}, {"noise_density", denoiser.noise.density}, {"weight", denoiser.weight}};
      if (!denoiser.noise.single) entry["mean_span_length"] = denoiser.noise.mean_length;
      denoisers.push_back(entry);
    }
    return Json{{"type", kName}, {"denoisers", denoisers}, {"mode_tokens", mode_tokens_}}.dump();
  }

  int64_t tokens_per_sample(int64_t sequence_length) const override {
    int64_t most = 0;
    for (const Denoiser& denoiser : denoisers_) {
      most = std::max(most, denoiser.noise.tokens_for(sequence_length - mode_length()));
    }
    return most;
  }

  void check_samples(const Batch& example, const ObjectiveContext& context) const override {
    require_encoder_decoder(kName, context.model);
    require_text(kName, example);
    refuse_document_mask(kName, example);
    const int64_t inputs = input_length(example.input_ids.size(1));
    for (const Denoiser& denoiser : denoisers_) {
      require_sentinels(kName, denoiser.noise, denoiser.noise.tokens_for(inputs), context);
    }
    find_mode_tokens(context);
  }

  Batch prepare(Batch batch, const ObjectiveContext& context) const override {
    const std::vector<int32_t> modes = find_mode_tokens(context);
    const int64_t length = input_length(batch.input_ids.size(1));
    TokenRows inputs, targets;
    int64_t sample = batch.first_sample;
    for (const TokenRow& tokens : token_rows(batch)) {
      SampleDraws draws(context.seed, kStream, sample++);
      const Denoiser& denoiser = choose(draws);
      const auto present = static_cast<int64_t>(tokens.size());
      const int64_t wanted = std::min(denoiser.noise.tokens_for(length), present);
      const auto window = tokens.begin() + draws.below(present - wanted + 1);
      TokenRow& source = inputs.emplace_back();
      if (!modes.empty()) source.push_back(modes[denoiser.mode]);
      denoiser.noise.corrupt({window, window + wanted}, *context.vocabulary, draws, source, targets.emplace_back());
    }
    return Objective::prepare(source_target_batch(inputs, targets, batch.first_sample, context), context);
  }

 private:
  int64_t mode_length() const { return mode_tokens_.empty() ? 0 : 1; }

  /// Of the inputs without a mode token, from the length of the samples that are read for them.
  int64_t input_length(int64_t tokens) const {
    int64_t least = tokens;
    for (const Denoiser& denoiser : denoisers_) least = std::min(least, denoiser.noise.input_length(tokens));
    return least;
  }

  const Denoiser& choose(SampleDraws& draws) const {
    double total = 0.0;
    for (const Denoiser& denoiser : denoisers_) total += denoiser.weight;
    double left = static_cast<double>(draws.uniform()) * total;
    for (const Denoiser& denoiser : denoisers_) {
      left -= denoiser.weight;
      if (left < 0.0) return denoiser;
    }
    return denoisers_.back();
  }

  std::vector<int32_t> find_mode_tokens(const ObjectiveContext& context) const {
    std::vector<int32_t> ids;
    for (const std::string& token : mode_tokens_) ids.push_back(require_token(kName, "mode_tokens", token, context));
    return ids;
  }

  std::vector<Denoiser> denoisers_;
  std::vector<std::string> mode_tokens_;
};

}  // namespace

std::unique_ptr<Objective> objectives::make_ul2(const JsonReader& section) {
  return std::make_unique<MixtureOfDenoisers>(section);
}

}  // namespace ondol
