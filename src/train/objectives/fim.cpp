// Fill in the middle (Bavarian et al. 2022): of the documents of a sample, fim_rate are cut at two random places and
// put together again with the middle at the end, so that a decoder learns to fill it in. All tokens are predicted.
//
//   PSM   <prefix> prefix <suffix> suffix <middle> middle <end>
//   SPM   <prefix> <suffix> suffix <middle> prefix middle <end>      (spm_rate of them; the paper's second form)
//
// Samples keep their length: the tokens that come in push others out behind the last document of the sample.
#include <algorithm>

#include "base/sample_draws.h"
#include "train/objectives/document_parts.h"
#include "train/objectives/objectives.h"
#include "train/objectives/token_rows.h"

namespace ondol {

namespace {

constexpr uint32_t kStream = 0x46494D00;
constexpr const char* kName = "fim";

size_t last_begin_of_character(const std::string& text, size_t at) {
  while (at > 0 && at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u) --at;
  return at;
}

class FillInTheMiddle final : public Objective {
 public:
  explicit FillInTheMiddle(const JsonReader& section) {
    fim_rate_ = section.get<double>("fim_rate", 0.9, between(0.0, 1.0));
    spm_rate_ = section.get<double>("spm_rate", 0.5, between(0.0, 1.0));
    split_ = section.get_enum("split", "character", {"character", "token"});
    prefix_ = section.get<std::string>("prefix_token", "<|fim_prefix|>");
    middle_ = section.get<std::string>("middle_token", "<|fim_middle|>");
    suffix_ = section.get<std::string>("suffix_token", "<|fim_suffix|>");
  }

  std::string settings() const override {
    return Json{{"type", kName},           {"fim_rate", fim_rate_},   {"spm_rate", spm_rate_},  {"split", split_},
                {"prefix_token", prefix_}, {"middle_token", middle_}, {"suffix_token", suffix_}}
        .dump();
  }

  void check_samples(const Batch& example, const ObjectiveContext& context) const override {
    if (context.model.info().head != Head::causal_language_model) {
      throw UsageError(concat("objective \"", kName, "\" needs a model that predicts the next token, not a ",
                              context.model.info().model_type, " model (", context.model.info().architecture, ")"));
    }
    require_text(kName, example);
    find_sentinels(context);
    require_end_token(kName, context);
    Objective::check_samples(example, context);
  }

  Batch prepare(Batch batch, const ObjectiveContext& context) const override {
    const Sentinels sentinels = find_sentinels(context);
    const int64_t rows = batch.size(), length = batch.input_ids.size(1);
    const std::vector<int32_t> ids = batch.input_ids.to_vector<int32_t>();
    std::vector<Row> changed(static_cast<size_t>(rows));
    std::optional<SampleDraws> draws;
    int64_t row = -1;
    for (const DocumentPart& part : document_parts(batch, context.vocabulary)) {
      if (part.begin / length != row) {
        row = part.begin / length;
        draws.emplace(context.seed, kStream, batch.first_sample + row);
      }
      add_document({ids.begin() + part.begin, ids.begin() + part.end}, length, sentinels, context, *draws,
                   changed[static_cast<size_t>(row)]);
    }
    put_rows(changed, context, batch);
    return Objective::prepare(std::move(batch), context);
  }

 private:
  struct Sentinels {
    int32_t prefix, middle, suffix, end;
  };
  struct Row {
    TokenRow tokens;
    std::vector<int32_t> documents, positions;
  };

  Sentinels find_sentinels(const ObjectiveContext& context) const {
    return {require_token(kName, "prefix_token", prefix_, context),
            require_token(kName, "middle_token", middle_, context),
            require_token(kName, "suffix_token", suffix_, context), context.vocabulary->eos_id.value_or(-1)};
  }

  /// Appends a document, changed or not, as far as there is room.
  void add_document(TokenRow tokens, int64_t length, const Sentinels& sentinels, const ObjectiveContext& context,
                    SampleDraws& draws, Row& row) const {
    const bool change = static_cast<double>(draws.uniform()) < fim_rate_;
    const bool suffix_first = static_cast<double>(draws.uniform()) < spm_rate_;
    const double first = static_cast<double>(draws.uniform()), second = static_cast<double>(draws.uniform());
    const auto room = static_cast<size_t>(length) - row.tokens.size();
    if (change) {
      TokenRow frame;  // <s>
      if (!tokens.empty() && tokens.front() != sentinels.end && context.vocabulary->is_special(tokens.front())) {
        frame.push_back(tokens.front());
        tokens.erase(tokens.begin());
      }
      if (!tokens.empty() && tokens.back() == sentinels.end) tokens.pop_back();
      const size_t around = frame.size() + 4;
      if (room <= around || tokens.empty()) return;
      tokens.resize(std::min(tokens.size(), room - around));
      TokenRow whole;
      for (;;) {  // cut at characters, the parts may have more tokens than the text had
        whole = rearrange(tokens, std::min(first, second), std::max(first, second), suffix_first, sentinels, context);
        if (frame.size() + whole.size() <= room) break;
        const size_t excess = frame.size() + whole.size() - room;
        if (excess >= tokens.size()) return;
        tokens.resize(tokens.size() - excess);
      }
      whole.insert(whole.begin(), frame.begin(), frame.end());
      tokens = std::move(whole);
    }
    tokens.resize(std::min(tokens.size(), room));
    const int32_t number = row.documents.empty() ? 0 : row.documents.back() + 1;
    for (size_t i = 0; i < tokens.size(); ++i) {
      row.tokens.push_back(tokens[i]);
      row.documents.push_back(number);
      row.positions.push_back(static_cast<int32_t>(i));
    }
  }

  /// `first` and `second` are the places of the cuts as shares of the text.
  TokenRow rearrange(const TokenRow& tokens, double first, double second, bool suffix_first, const Sentinels& sentinels,
                     const ObjectiveContext& context) const {
    TokenRow prefix, middle, suffix;
    if (split_ == "token") {
      const auto place = [&tokens](double share) {
        return tokens.begin() + static_cast<ptrdiff_t>(share * static_cast<double>(tokens.size() + 1));
      };
      prefix.assign(tokens.begin(), place(first));
      middle.assign(place(first), place(second));
      suffix.assign(place(second), tokens.end());
    } else {
      const std::string text = context.tokenizer->decode(tokens);
      const auto place = [&text](double share) {
        return last_begin_of_character(text, static_cast<size_t>(share * static_cast<double>(text.size() + 1)));
      };
      const auto encode = [&](size_t begin, size_t end) {
        return context.tokenizer->encode(std::string_view(text).substr(begin, end - begin),
                                         {.add_special_tokens = false, .parse_special = false});
      };
      prefix = encode(0, place(first));
      middle = encode(place(first), place(second));
      suffix = encode(place(second), text.size());
    }
    TokenRow out = {sentinels.prefix};
    const auto add = [&out](const TokenRow& part) { out.insert(out.end(), part.begin(), part.end()); };
    if (!suffix_first) add(prefix);
    out.push_back(sentinels.suffix);
    add(suffix);
    out.push_back(sentinels.middle);
    if (suffix_first) add(prefix);
    add(middle);
    out.push_back(sentinels.end);
    return out;
  }

  static void put_rows(std::vector<Row>& rows, const ObjectiveContext& context, Batch& batch) {
    const auto length = static_cast<size_t>(batch.input_ids.size(1));
    std::vector<int32_t> ids, documents, positions;
    std::vector<uint8_t> visible;
    for (Row& row : rows) {
      for (size_t i = 0; i < length; ++i) visible.push_back(i < row.tokens.size());
      row.tokens.resize(length, padding_token(context));
      row.documents.resize(length, -1);
      row.positions.resize(length, 0);
      ids.insert(ids.end(), row.tokens.begin(), row.tokens.end());
      documents.insert(documents.end(), row.documents.begin(), row.documents.end());
      positions.insert(positions.end(), row.positions.begin(), row.positions.end());
    }
    const Shape shape = batch.input_ids.shape();
    batch.input_ids = Tensor::from_vector(ids, shape);
    if (batch.document_ids.defined()) {
      batch.document_ids = Tensor::from_vector(documents, shape);
      batch.positions = Tensor::from_vector(positions, shape);
    } else {
      batch.attention_mask = Tensor::from_vector(visible, shape);
    }
    batch.labels = next_tokens(batch);
    batch.labels_shifted = true;
  }

  double fim_rate_, spm_rate_;
  std::string split_, prefix_, middle_, suffix_;
};

}  // namespace

std::unique_ptr<Objective> objectives::make_fim(const JsonReader& section) {
  return std::make_unique<FillInTheMiddle>(section);
}

}  // namespace ondol
