// Masked language modelling (Devlin et al. 2019): of the tokens of a sample, `probability` are chosen and predicted
// from the rest; of the chosen ones mask_fraction become the mask token, random_fraction any other token, the rest
// stay. Choices are new in every epoch (RoBERTa, Liu et al. 2019), or with `static` the same (BERT).
//
//   token       single tokens
//   whole_word  all pieces of a word together
//   ngram       1 to max_ngram words in a row, n with a likelihood proportional to 1 / n (as ALBERT, Lan et al. 2020)
//   span        words in a row, their number geometric with span_probability, at most max_span (SpanBERT, Joshi et al.
//               2020; 0.2 and 10 give a mean of 3.8); a span is masked, replaced or kept as a whole
//
// span_boundary adds SpanBERT's second objective (span_boundary.h).
//
// With `pairs` samples are pairs of segments, and the model also learns whether the second one follows the first
// ("nsp", BERT) or whether they stand in their order ("sop", ALBERT); see data/sentence_pairs.h.
#include <algorithm>
#include <cmath>
#include <numeric>

#include <ondol/autograd/functions.h>

#include "base/fnv1a.h"
#include "base/sample_draws.h"
#include "train/objectives/objectives.h"
#include "train/objectives/span_boundary.h"
#include "train/objectives/token_rows.h"

namespace ondol {

namespace {

constexpr uint32_t kStream = 0x4D4C4D00;
constexpr const char* kPairs[] = {"none", "nsp", "sop"};
constexpr const char* kMaskings[] = {"token", "whole_word", "ngram", "span"};

/// Tokens [begin, end) of a row that belong together.
struct Word {
  int64_t begin, end;
  int64_t length() const { return end - begin; }
};

class MaskedLanguageModelling final : public Objective {
 public:
  explicit MaskedLanguageModelling(const JsonReader& section) {
    probability_ = section.get<double>("probability", 0.15, {.low = 0.0, .high = 1.0, .low_open = true});
    mask_fraction_ = section.get<double>("mask_fraction", 0.8, between(0.0, 1.0));
    random_fraction_ = section.get<double>("random_fraction", 0.1, between(0.0, 1.0));
    masking_ = section.get_enum("masking", "token", {std::begin(kMaskings), std::end(kMaskings)});
    max_ngram_ = section.get<int64_t>("max_ngram", 3, between(1, 64));
    span_probability_ =
        section.get<double>("span_probability", 0.2, {.low = 0.0, .high = 1.0, .low_open = true, .high_open = true});
    max_span_ = section.get<int64_t>("max_span", 10, between(1, 1024));
    pairs_ = section.get_enum("pairs", "none", {std::begin(kPairs), std::end(kPairs)});
    short_pairs_ = section.get<double>("short_pair_fraction", 0.1, between(0.0, 1.0));
    static_ = section.get<bool>("static", false);
    boundary_ = section.get<bool>("span_boundary", false);
    if (boundary_ && masking_ != "span")
      section.fail("span_boundary", "needs spans", "set objective.masking to \"span\"");
    if (boundary_ && pairs_ != "none") section.fail("span_boundary", "does not go with pairs");
    if (section.has("mask_token_id")) mask_token_id_ = section.require<int32_t>("mask_token_id", at_least(0));
    if (mask_fraction_ + random_fraction_ > 1.0) {
      section.fail("random_fraction", concat("with mask_fraction ", mask_fraction_, " it is more than 1"));
    }
  }

  std::string settings() const override {
    Json out = {{"type", "mlm"},
                {"probability", probability_},
                {"mask_fraction", mask_fraction_},
                {"random_fraction", random_fraction_},
                {"masking", masking_},
                {"max_ngram", max_ngram_},
                {"span_probability", span_probability_},
                {"max_span", max_span_},
                {"pairs", pairs_},
                {"short_pair_fraction", short_pairs_},
                {"static", static_},
                {"span_boundary", boundary_}};
    if (mask_token_id_) out["mask_token_id"] = *mask_token_id_;
    return out.dump();
  }

  void extend(Model& model) const override {
    if (boundary_) SpanBoundaryObjective(max_span_).extend(model);
  }

  void choose_data(DataConfig& data) const override {
    if (pairs_ == "none") return;
    data.pairs.task = pairs_ == "nsp" ? SentencePairSettings::next_sentence : SentencePairSettings::sentence_order;
    data.pairs.short_fraction = short_pairs_;
    data.pairs.same_each_epoch = static_;
    if (data.sentences == SentenceSplit::none) data.sentences = SentenceSplit::lines;
  }

  void check_samples(const Batch& example, const ObjectiveContext& context) const override {
    if (context.model.info().head != Head::masked_language_model) {
      throw UsageError(concat("objective \"mlm\" needs a model with a masked language modelling head, not a ",
                              context.model.info().model_type, " model (", context.model.info().architecture, ")"));
    }
    if (example.labels.defined() && !example.labels_shifted) {
      throw UsageError("objective \"mlm\" chooses its labels itself, but the samples have \"labels\" (data)",
                       "finished samples are for the objective \"tensors\"");
    }
    mask_id(context);
    if (context.vocabulary == nullptr && (masking_ != "token" || random_fraction_ > 0.0)) {
      throw UsageError("objective \"mlm\" needs a tokenizer, to know words and special tokens (tokenizer.path)");
    }
    if (pairs_ != "none" && pair_label(context.model).empty()) {
      throw UsageError(concat("objective \"mlm\" with pairs needs a model with a head for them, not ",
                              context.model.info().architecture, " (objective.pairs)"),
                       "BertForPreTraining has one");
    }
    Objective::check_samples(as_input(example, context.model), context);
  }

  Batch prepare(Batch batch, const ObjectiveContext& context) const override {
    const int32_t mask = mask_id(context);
    batch = as_input(std::move(batch), context.model);
    const int64_t rows = batch.size(), length = batch.input_ids.size(1);
    std::vector<int32_t> ids = batch.input_ids.to_vector<int32_t>();
    std::vector<int32_t> labels(ids.size(), kIgnoreIndex);
    const std::vector<uint8_t> visible =
        batch.attention_mask.defined() ? batch.attention_mask.to_vector<uint8_t>() : std::vector<uint8_t>();
    const std::vector<int32_t> documents =
        batch.document_ids.defined() ? batch.document_ids.to_vector<int32_t>() : std::vector<int32_t>();
    const std::vector<int32_t> tokens = ids;
    std::vector<MaskedSpan> spans;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t begin = row * length;
      const int64_t number =
          static_ ? content_number(&ids[static_cast<size_t>(begin)], length) : batch.first_sample + row;
      SampleDraws draws(context.seed, kStream, number);
      for (const Word& span : choose(find_words(ids, visible, documents, begin, begin + length, context), draws)) {
        change(span, ids, labels, mask, context, draws);
        spans.push_back({span.begin, span.end});
      }
    }
    batch.input_ids = Tensor::from_vector(ids, {rows, length});
    batch.labels = Tensor::from_vector(labels, {rows, length});
    batch = Objective::prepare(std::move(batch), context);
    if (boundary_) {
      const int64_t most = std::llround(probability_ * static_cast<double>(length));
      SpanBoundaryObjective(max_span_).add_targets(spans, tokens, std::max<int64_t>(most, 1), batch);
    }
    return batch;
  }

  std::vector<int64_t> count_targets(const Batch& prepared, const Model& model) const override {
    if (!boundary_) return Objective::count_targets(prepared, model);
    Batch plain = prepared;
    Batch boundary;
    boundary.labels = SpanBoundaryObjective::take_targets(plain).labels;
    return {model.count_targets(model_input(plain)).at(0), boundary.count_targets()};
  }

  /// With the boundary objective the sum of both, each a mean over its own targets.
  std::vector<Variable> losses(Model& model, const Batch& rows, const std::vector<LossScale>& scales,
                               const ForwardContext& context) const override {
    if (!boundary_) return Objective::losses(model, rows, scales, context);
    Batch plain = rows;
    const SpanBoundaryObjective::Targets targets = SpanBoundaryObjective::take_targets(plain);
    const ModelInput input = model_input(plain).to(model.device());
    const TokenPredictions predicted = model.predict_tokens(input, context);
    functions::LinearCrossEntropyInputs inputs;
    inputs.weight = predicted.output.weight;
    inputs.bias = predicted.output.bias;
    inputs.scale = scales.at(0);
    const Tensor& labels = input.target_positions.defined() ? input.target_labels : input.labels;
    return {functions::linear_cross_entropy(predicted.features, labels, inputs),
            SpanBoundaryObjective(max_span_).loss(model, predicted.hidden, predicted.output, targets, scales.at(1))};
  }

 private:
  /// Without the next tokens, which are the labels of samples made from text; the label of pairs as the model calls it.
  static Batch as_input(Batch batch, const Model& model) {
    batch.labels = {};
    batch.labels_shifted = false;
    for (auto& [name, tensor] : batch.others) {
      if (name == "next_sentence_label" && !pair_label(model).empty()) name = pair_label(model);
    }
    return batch;
  }

  /// The target of pairs that a model takes: next_sentence_label or sentence_order_label; "": none.
  static std::string pair_label(const Model& model) {
    for (const InputSpec& spec : model.inputs()) {
      if (spec.name == "next_sentence_label" || spec.name == "sentence_order_label") return spec.name;
    }
    return "";
  }

  /// A number for a sample that its tokens alone decide, so that they are masked alike in every epoch.
  static int64_t content_number(const int32_t* ids, int64_t length) {
    Fnv1a<uint64_t> hash;
    for (int64_t i = 0; i < length; ++i) hash.add_unit(static_cast<uint32_t>(ids[i]));
    return static_cast<int64_t>(hash.value() >> 1);
  }

  int32_t mask_id(const ObjectiveContext& context) const { return mask_token("mlm", mask_token_id_, context); }

  /// The words of tokens [begin, end) that may be chosen: no padding, no special tokens.
  std::vector<Word> find_words(const std::vector<int32_t>& ids, const std::vector<uint8_t>& visible,
                               const std::vector<int32_t>& documents, int64_t begin, int64_t end,
                               const ObjectiveContext& context) const {
    std::vector<Word> words;
    for (int64_t i = begin; i < end; ++i) {
      const auto at = static_cast<size_t>(i);
      if (!visible.empty() && visible[at] == 0) continue;
      if (context.vocabulary != nullptr && context.vocabulary->is_special(ids[at])) continue;
      const bool follows =
          !words.empty() && words.back().end == i && (documents.empty() || documents[at] == documents[at - 1]);
      if (masking_ != "token" && follows && context.vocabulary->goes_on(ids[at])) {
        ++words.back().end;
      } else {
        words.push_back({i, i + 1});
      }
    }
    return words;
  }

  int64_t draw_words(SampleDraws& draws) const {
    if (masking_ == "span") return draws.geometric(span_probability_, max_span_);
    if (masking_ != "ngram") return 1;
    double total = 0.0;
    for (int64_t n = 1; n <= max_ngram_; ++n) total += 1.0 / static_cast<double>(n);
    double left = static_cast<double>(draws.uniform()) * total;
    for (int64_t n = 1; n < max_ngram_; ++n) {
      left -= 1.0 / static_cast<double>(n);
      if (left < 0.0) return n;
    }
    return max_ngram_;
  }

  /// Spans that share no token and hold `probability` of all tokens, or as many as fit below that; one at least.
  std::vector<Word> choose(const std::vector<Word>& words, SampleDraws& draws) const {
    int64_t tokens = 0;
    for (const Word& word : words) tokens += word.length();
    int64_t budget = std::max<int64_t>(std::llround(probability_ * static_cast<double>(tokens)), 1);
    std::vector<size_t> order(words.size());
    std::iota(order.begin(), order.end(), size_t{0});
    draws.shuffle(order);
    std::vector<bool> taken(words.size());
    std::vector<Word> spans;
    for (const size_t first : order) {
      if (budget <= 0) break;
      if (taken[first]) continue;
      const int64_t wanted = draw_words(draws);
      int64_t length = 0;
      size_t last = first;
      for (size_t w = first; w < words.size() && static_cast<int64_t>(w - first) < wanted; ++w) {
        const bool next_to = w == first || (!taken[w] && words[w].begin == words[w - 1].end);
        if (!next_to || length + words[w].length() > budget) break;
        length += words[w].length();
        last = w;
      }
      if (length == 0) continue;  // too long for what is left
      for (size_t w = first; w <= last; ++w) taken[w] = true;
      spans.push_back({words[first].begin, words[last].end});
      budget -= length;
    }
    if (spans.empty() && !order.empty()) spans.push_back(words[order[0]]);  // every word is longer than the budget
    return spans;
  }

  void change(const Word& span, std::vector<int32_t>& ids, std::vector<int32_t>& labels, int32_t mask,
              const ObjectiveContext& context, SampleDraws& draws) const {
    const bool together = masking_ == "span";
    double drawn = static_cast<double>(draws.uniform());
    for (int64_t i = span.begin; i < span.end; ++i) {
      const auto at = static_cast<size_t>(i);
      if (!together && i > span.begin) drawn = static_cast<double>(draws.uniform());
      labels[at] = ids[at];
      if (drawn < mask_fraction_) {
        ids[at] = mask;
      } else if (drawn < mask_fraction_ + random_fraction_) {
        const std::vector<int32_t>& regular = context.vocabulary->regular;
        if (!regular.empty()) ids[at] = regular[static_cast<size_t>(draws.below(static_cast<int64_t>(regular.size())))];
      }
    }
  }

  double probability_, mask_fraction_, random_fraction_, span_probability_;
  int64_t max_ngram_, max_span_;
  std::string masking_, pairs_;
  double short_pairs_;
  bool static_, boundary_;
  std::optional<int32_t> mask_token_id_;
};

}  // namespace

std::unique_ptr<Objective> objectives::make_mlm(const JsonReader& section) {
  return std::make_unique<MaskedLanguageModelling>(section);
}

}  // namespace ondol
