// Span corruption (Raffel et al. 2020, "T5"): noise_density of the tokens, in spans of mean_span_length on average, are
// cut out. The encoder reads the rest with a sentinel in the place of each span, the decoder predicts each sentinel and
// what stood there; both end with the end token:
//
//   text     Thank you for inviting me to your party last week
//   inputs   Thank you <extra_id_0> me to your party <extra_id_1> week </s>
//   targets  <extra_id_0> for inviting <extra_id_1> last </s>
//
// Numbers of tokens and spans do not depend on chance, so that data.sequence_length is the exact length of the inputs:
// as many tokens are read for a sample as leave that length (568 for 512, with targets of 114).
#include <algorithm>
#include <cmath>

#include "train/objectives/objectives.h"
#include "train/objectives/sample_draws.h"

namespace ondol {

namespace {

constexpr uint32_t kStream = 0x53504E00;

/// How many of `tokens` are cut out, and in how many spans; both 0 where there is nothing to leave.
struct Noise {
  int64_t tokens = 0, spans = 0;
};

/// Cuts `items` into `parts` of at least one each, all ways equally likely.
std::vector<int64_t> random_parts(int64_t items, int64_t parts, SampleDraws& draws) {
  std::vector<uint8_t> begins(static_cast<size_t>(items - 1), 0);  // whether item i + 1 begins a part
  std::fill_n(begins.begin(), parts - 1, uint8_t{1});
  draws.shuffle(begins);
  std::vector<int64_t> lengths = {1};
  for (const uint8_t begin : begins) {
    if (begin != 0) {
      lengths.push_back(1);
    } else {
      ++lengths.back();
    }
  }
  return lengths;
}

class SpanCorruption final : public Objective {
 public:
  explicit SpanCorruption(const JsonReader& section) {
    density_ =
        section.get<double>("noise_density", 0.15, {.low = 0.0, .high = 1.0, .low_open = true, .high_open = true});
    mean_length_ = section.get<double>("mean_span_length", 3.0, at_least(1.0));
  }

  std::string settings() const override {
    return Json{{"type", "span_corruption"}, {"noise_density", density_}, {"mean_span_length", mean_length_}}.dump();
  }

  int64_t tokens_per_sample(int64_t sequence_length) const override {
    int64_t tokens = sequence_length;
    while (input_length(tokens + 1) <= sequence_length) ++tokens;
    while (tokens > 2 && input_length(tokens) > sequence_length) --tokens;
    return tokens;
  }

  void check_samples(const Batch& example, const ObjectiveContext& context) const override {
    if (context.model.info().head != Head::sequence_to_sequence) {
      throw UsageError(concat("objective \"span_corruption\" needs an encoder-decoder, not a ",
                              context.model.info().model_type, " model (", context.model.info().architecture, ")"));
    }
    if (example.labels.defined() && !example.labels_shifted) {
      throw UsageError("objective \"span_corruption\" makes its targets itself, but the samples have \"labels\" (data)",
                       "finished samples are for the objective \"tensors\"");
    }
    if (example.document_ids.defined()) {
      throw UsageError("objective \"span_corruption\" corrupts across documents (data.document_mask)",
                       "set data.document_mask or data.packing to false");
    }
    if (context.vocabulary == nullptr || context.vocabulary->sentinels.empty()) {
      throw UsageError("objective \"span_corruption\" needs a tokenizer with sentinels (tokenizer.path)",
                       "sentinels are the tokens <extra_id_0>, <extra_id_1>, ...");
    }
    if (!context.vocabulary->eos_id) {
      throw UsageError("objective \"span_corruption\" needs a tokenizer with an end token (tokenizer.path)");
    }
    const Noise noise = noise_of(example.input_ids.size(1));
    const auto sentinels = static_cast<int64_t>(context.vocabulary->sentinels.size());
    if (noise.spans > sentinels) {
      throw UsageError(concat("objective \"span_corruption\": samples of ", example.input_ids.size(1), " tokens have ",
                              noise.spans, " spans, the tokenizer has ", sentinels, " sentinels"),
                       "shorten data.sequence_length or raise objective.mean_span_length");
    }
  }

  Batch prepare(Batch batch, const ObjectiveContext& context) const override {
    const int64_t rows = batch.size(), length = batch.input_ids.size(1);
    const std::vector<int32_t> ids = batch.input_ids.to_vector<int32_t>();
    const std::vector<uint8_t> visible =
        batch.attention_mask.defined() ? batch.attention_mask.to_vector<uint8_t>() : std::vector<uint8_t>();
    std::vector<std::vector<int32_t>> inputs, targets;
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<int32_t> tokens;
      for (int64_t i = row * length; i < (row + 1) * length; ++i) {
        if (visible.empty() || visible[static_cast<size_t>(i)] != 0) tokens.push_back(ids[static_cast<size_t>(i)]);
      }
      SampleDraws draws(context.seed, kStream, batch.first_sample + row);
      inputs.emplace_back();
      targets.emplace_back();
      corrupt(tokens, *context.vocabulary, draws, inputs.back(), targets.back());
    }
    Batch out;
    out.first_sample = batch.first_sample;
    out.labels_shifted = false;
    const int32_t pad = context.model.info().pad_token_id.value_or(context.vocabulary->pad_id.value_or(0));
    out.attention_mask = mask_of(inputs);
    out.input_ids = padded(inputs, pad);
    out.labels = padded(targets, kIgnoreIndex);
    return Objective::prepare(std::move(out), context);
  }

 private:
  Noise noise_of(int64_t tokens) const {
    if (tokens < 2) return {};
    Noise noise;
    noise.tokens = std::clamp<int64_t>(std::llrint(static_cast<double>(tokens) * density_), 1, tokens - 1);
    const int64_t most = std::min(noise.tokens, tokens - noise.tokens);
    noise.spans = std::clamp<int64_t>(std::llrint(static_cast<double>(noise.tokens) / mean_length_), 1, most);
    return noise;
  }

  /// With a sentinel for each span and the end token.
  int64_t input_length(int64_t tokens) const {
    const Noise noise = noise_of(tokens);
    return tokens - noise.tokens + noise.spans + 1;
  }

  /// What is kept comes first, a span last.
  void corrupt(std::vector<int32_t> tokens, const Vocabulary& vocabulary, SampleDraws& draws,
               std::vector<int32_t>& inputs, std::vector<int32_t>& targets) const {
    const int32_t end = *vocabulary.eos_id;
    if (!tokens.empty() && tokens.back() == end) tokens.pop_back();  // comes again behind the sentinels
    const Noise noise = noise_of(static_cast<int64_t>(tokens.size()));
    if (noise.spans > 0) {
      const auto cut = random_parts(noise.tokens, noise.spans, draws);
      const auto kept = random_parts(static_cast<int64_t>(tokens.size()) - noise.tokens, noise.spans, draws);
      auto next = tokens.begin();
      for (size_t span = 0; span < cut.size(); ++span) {
        inputs.insert(inputs.end(), next, next + kept[span]);
        next += kept[span];
        inputs.push_back(vocabulary.sentinels[span]);
        targets.push_back(vocabulary.sentinels[span]);
        targets.insert(targets.end(), next, next + cut[span]);
        next += cut[span];
      }
    } else {
      inputs = tokens;
    }
    inputs.push_back(end);
    targets.push_back(end);
  }

  static size_t longest(const std::vector<std::vector<int32_t>>& rows) {
    size_t length = 0;
    for (const auto& row : rows) length = std::max(length, row.size());
    return length;
  }

  static Tensor padded(const std::vector<std::vector<int32_t>>& rows, int32_t filler) {
    const size_t length = longest(rows);
    std::vector<int32_t> flat(rows.size() * length, filler);
    for (size_t r = 0; r < rows.size(); ++r) {
      std::copy(rows[r].begin(), rows[r].end(), flat.begin() + static_cast<ptrdiff_t>(r * length));
    }
    return Tensor::from_vector(flat, {static_cast<int64_t>(rows.size()), static_cast<int64_t>(length)});
  }

  /// Undefined when all rows are equally long.
  static Tensor mask_of(const std::vector<std::vector<int32_t>>& rows) {
    const size_t length = longest(rows);
    std::vector<uint8_t> mask(rows.size() * length, 0);
    bool needed = false;
    for (size_t r = 0; r < rows.size(); ++r) {
      std::fill_n(mask.begin() + static_cast<ptrdiff_t>(r * length), rows[r].size(), uint8_t{1});
      needed = needed || rows[r].size() < length;
    }
    const Shape shape{static_cast<int64_t>(rows.size()), static_cast<int64_t>(length)};
    return needed ? Tensor::from_vector(mask, shape) : Tensor();
  }

  double density_, mean_length_;
};

}  // namespace

std::unique_ptr<Objective> make_span_corruption(const JsonReader& section) {
  return std::make_unique<SpanCorruption>(section);
}

}  // namespace ondol
