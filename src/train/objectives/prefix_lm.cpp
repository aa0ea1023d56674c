// Prefix language modelling (Raffel et al. 2020, section 3.2.1): a text is cut at a random place, the part behind it is
// to be predicted from the part before it.
//
//   encoder-decoder   the encoder reads the prefix, in both directions; the decoder predicts the rest
//   decoder           loss on the rest only. With `bidirectional_prefix` attention sees the prefix in both directions,
//                     the rest causally, and config.json of what is saved says so ("bidirectional_prefix": prompts are
//                     read in the same way); without, it stays causal throughout: an ordinary decoder
//
// Of a sample that holds several documents a decoder has a prefix in each.
#include <algorithm>
#include <cmath>

#include "base/sample_draws.h"
#include "train/objectives/document_parts.h"
#include "train/objectives/objectives.h"
#include "train/objectives/token_rows.h"

namespace ondol {

namespace {

constexpr uint32_t kStream = 0x50464C00;
constexpr const char* kName = "prefix_lm";

class PrefixLanguageModelling final : public Objective {
 public:
  explicit PrefixLanguageModelling(const JsonReader& section) {
    min_prefix_ = section.get<double>("min_prefix", 0.0, between(0.0, 1.0));
    max_prefix_ = section.get<double>("max_prefix", 1.0, between(0.0, 1.0));
    bidirectional_ = section.get<bool>("bidirectional_prefix", false);
    if (min_prefix_ > max_prefix_) section.fail("min_prefix", concat("is more than max_prefix, ", max_prefix_));
  }

  std::string settings() const override {
    return Json{{"type", kName},
                {"min_prefix", min_prefix_},
                {"max_prefix", max_prefix_},
                {"bidirectional_prefix", bidirectional_}}
        .dump();
  }

  void set_up(Model& model, const ModelOrigin&) const override {
    if (model.info().head != Head::causal_language_model || model.info().bidirectional_prefix == bidirectional_) return;
    if (model.lora() != nullptr) {
      throw UsageError(concat("objective.bidirectional_prefix is ", bidirectional_ ? "true" : "false",
                              ", which the configuration of the model below the adapter does not say: an adapter "
                              "cannot change it (lora)"));
    }
    model.set_bidirectional_prefix(bidirectional_);
  }

  void check_samples(const Batch& example, const ObjectiveContext& context) const override {
    require_text(kName, example);
    if (context.model.info().head == Head::causal_language_model) {
      Objective::check_samples(example, context);
      return;
    }
    if (context.model.info().head != Head::sequence_to_sequence) {
      throw UsageError(concat("objective \"", kName, "\" needs a decoder or an encoder-decoder, not a ",
                              context.model.info().model_type, " model (", context.model.info().architecture, ")"));
    }
    if (bidirectional_) {
      throw UsageError(concat("objective.bidirectional_prefix is for decoders: the encoder of a ",
                              context.model.info().model_type, " model reads the prefix in both directions anyway"));
    }
    refuse_document_mask(kName, example);
    require_end_token(kName, context);
  }

  Batch prepare(Batch batch, const ObjectiveContext& context) const override {
    const bool decoder = context.model.info().head == Head::causal_language_model;
    return decoder ? mask_prefixes(std::move(batch), context) : split(batch, context);
  }

 private:
  /// At least one token on either side.
  int64_t draw_prefix(int64_t tokens, SampleDraws& draws) const {
    const auto share = [tokens](double x) { return std::llround(x * static_cast<double>(tokens)); };
    const int64_t most = std::clamp<int64_t>(share(max_prefix_), 1, tokens - 1);
    const int64_t least = std::clamp<int64_t>(share(min_prefix_), 1, most);
    return least + draws.below(most - least + 1);
  }

  Batch split(const Batch& batch, const ObjectiveContext& context) const {
    const int32_t end = *context.vocabulary->eos_id;
    TokenRows sources, targets;
    int64_t sample = batch.first_sample;
    for (TokenRow& tokens : token_rows(batch)) {
      SampleDraws draws(context.seed, kStream, sample++);
      if (!tokens.empty() && tokens.back() == end) tokens.pop_back();  // comes again behind the target
      const auto length = static_cast<int64_t>(tokens.size());
      const int64_t prefix = length > 1 ? draw_prefix(length, draws) : length;
      sources.emplace_back(tokens.begin(), tokens.begin() + prefix);
      targets.emplace_back(tokens.begin() + prefix, tokens.end());
      if (sources.back().empty()) sources.back().push_back(end);
      targets.back().push_back(end);
    }
    return Objective::prepare(source_target_batch(sources, targets, batch.first_sample, context), context);
  }

  Batch mask_prefixes(Batch batch, const ObjectiveContext& context) const {
    const int64_t length = batch.input_ids.size(1);
    if (!batch.labels.defined()) batch.labels = next_tokens(batch);
    batch.labels_shifted = true;
    std::vector<int32_t> labels = batch.labels.to_vector<int32_t>();
    std::vector<int32_t> ends(labels.size(), 0);
    const std::vector<DocumentPart> parts = document_parts(batch, context.vocabulary);
    int64_t row = -1;
    std::optional<SampleDraws> draws;
    for (const DocumentPart& part : parts) {
      if (part.begin / length != row) {
        row = part.begin / length;
        draws.emplace(context.seed, kStream, batch.first_sample + row);
      }
      if (part.length() < 2) continue;
      // The last token of the prefix predicts the first one behind it.
      const int64_t prefix = draw_prefix(part.length(), *draws);
      std::fill_n(labels.begin() + part.begin, prefix - 1, kIgnoreIndex);
      if (!bidirectional_) continue;
      std::fill_n(ends.begin() + part.begin, prefix, static_cast<int32_t>(part.begin - row * length + prefix));
    }
    batch.labels = Tensor::from_vector(labels, batch.input_ids.shape());
    // A model that reads prompts in both directions is told where there are none, too.
    if (bidirectional_ || context.model.info().bidirectional_prefix) {
      batch.others.emplace_back("prefix_ends", Tensor::from_vector(ends, batch.input_ids.shape()));
    }
    return Objective::prepare(std::move(batch), context);
  }

  double min_prefix_, max_prefix_;
  bool bidirectional_;
};

}  // namespace

std::unique_ptr<Objective> objectives::make_prefix_lm(const JsonReader& section) {
  return std::make_unique<PrefixLanguageModelling>(section);
}

}  // namespace ondol
