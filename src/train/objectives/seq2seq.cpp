// Fine-tuning of encoder-decoders: the decoder learns the target of a source (translation, summaries).
#include <algorithm>

#include <ondol/data/documents.h>
#include <ondol/train/text_encoder.h>

#include "base/json_reader.h"
#include "data/record_encoder.h"
#include "train/objectives/objectives.h"
#include "train/objectives/seq2seq_evaluator.h"

namespace ondol {

namespace {

struct Seq2SeqSettings {
  std::string source_prefix;  // "translate English to German: "
  int64_t max_target_length = 128;
  std::vector<std::string> metrics = {"bleu", "chrf", "rouge"};
  int64_t beams = 1;
  double length_penalty = 1.0;
  std::string source_language, target_language;  // tokens of the languages; "": texts are as the tokenizer makes them
  bool language_first = false;                   // mBART-50: code, text, end; else, mBART: text, end, code
};

/// The token that stands for a language.
int32_t language_token(const Tokenizer& tokenizer, const std::string& key, const std::string& name) {
  if (const auto id = tokenizer.token_to_id(name)) return *id;
  throw UsageError(concat("objective.", key, " ", quoted_name(name), " is no token of the tokenizer"),
                   "languages are named by their tokens, as \"en_XX\"");
}

/// Special tokens around every text of one language.
struct LanguageFrame {
  std::vector<int32_t> before, after;

  LanguageFrame(const Tokenizer& tokenizer, int32_t language, bool language_first) {
    const std::optional<int32_t> end = tokenizer.special_token_id("eos");
    if (!end) throw UsageError("objective.target_language needs a tokenizer with an end token");
    if (language_first) {
      before = {language};
      after = {*end};
    } else {
      after = {*end, language};
    }
  }
};

/// A text, or a list of texts: of sources the parts, of targets the versions.
std::vector<std::string> texts_of(const Record& record, const std::string& field) {
  if (!record.require(field).is_array()) return {record.text(field)};
  std::vector<std::string> texts = record.texts(field);
  if (texts.empty()) record.fail(concat("field ", record.label_of(field), " is empty"));
  return texts;
}

class Seq2SeqEncoder final : public RecordEncoder {
 public:
  Seq2SeqEncoder(const Seq2SeqSettings& settings, const RecordContext& context)
      : settings_(settings),
        tokenizer_(*context.tokenizer),
        source_length_(context.sequence_length),
        pad_(context.model.info().pad_token_id.value_or(0)),
        evaluation_(context.evaluation) {
    const auto frame = [&](const char* key, const std::string& language) -> std::optional<LanguageFrame> {
      if (language.empty()) return std::nullopt;
      return LanguageFrame(tokenizer_, language_token(tokenizer_, key, language), settings.language_first);
    };
    source_frame_ = frame("source_language", settings.source_language);
    target_frame_ = frame("target_language", settings.target_language);
  }

  std::vector<SampleColumn> columns() const override {
    return {{.name = "input_ids", .padding = pad_, .limit = source_length_},
            {.name = "labels",
             .kind = SampleColumn::target_sequence,
             .padding = kIgnoreIndex,
             .limit = settings_.max_target_length}};
  }

  uint64_t fingerprint() const override {
    uint64_t value = mix_fingerprint(make_text_encoder(tokenizer_).fingerprint, settings_.source_prefix);
    for (const auto& frame : {source_frame_, target_frame_}) {
      if (!frame) continue;
      for (const int32_t id : frame->before) value = mix_fingerprint(value, static_cast<uint64_t>(id));
      for (const int32_t id : frame->after) value = mix_fingerprint(value, static_cast<uint64_t>(id));
    }
    value = mix_fingerprint(value, static_cast<uint64_t>(source_length_));
    return mix_fingerprint(value, static_cast<uint64_t>(settings_.max_target_length));
  }

  std::vector<std::string> fields() const override { return {"source", "target"}; }

  void encode(const Record& record, EncodedRecord& out) const override {
    std::string source = settings_.source_prefix;
    const std::vector<std::string> parts = texts_of(record, "source"), targets = texts_of(record, "target");
    for (const std::string& part : parts) source += (&part == &parts.front() ? "" : " ") + part;
    EncodedSample sample;
    sample.values = {
        source_frame_ ? framed(source, *source_frame_, source_length_, out) : ids_of(source, source_length_, out),
        target_frame_ ? framed(targets.front(), *target_frame_, settings_.max_target_length, out)
                      : target_ids(targets.front(), out)};
    if (evaluation_) sample.reference = Json(targets).dump();
    out.samples.push_back(std::move(sample));
  }

 private:
  std::vector<int32_t> framed(const std::string& text, const LanguageFrame& frame, int64_t limit,
                              EncodedRecord& out) const {
    std::vector<int32_t> ids = tokenizer_.encode(text, {.add_special_tokens = false});
    const auto room = static_cast<size_t>(std::max<int64_t>(limit - 2, 0));
    if (ids.size() > room) {
      out.truncated = true;
      ids.resize(room);
    }
    ids.insert(ids.begin(), frame.before.begin(), frame.before.end());
    ids.insert(ids.end(), frame.after.begin(), frame.after.end());
    return ids;
  }

  /// The special tokens stay when a text is cut.
  std::vector<int32_t> ids_of(const std::string& text, int64_t limit, EncodedRecord& out) const {
    std::vector<int32_t> ids = tokenizer_.encode(text);
    if (static_cast<int64_t>(ids.size()) <= limit) return ids;
    out.truncated = true;
    return tokenizer_.encode(text, {.max_length = limit});
  }

  /// Tokenizers that put no end token behind a text get it here; that of a language may stand behind it (mBART).
  std::vector<int32_t> target_ids(const std::string& text, EncodedRecord& out) const {
    std::vector<int32_t> ids = ids_of(text, settings_.max_target_length, out);
    const std::optional<int32_t> end = tokenizer_.special_token_id("eos");
    if (!end || std::find(ids.begin(), ids.end(), *end) != ids.end()) return ids;
    if (static_cast<int64_t>(ids.size()) == settings_.max_target_length) ids.pop_back();
    ids.push_back(*end);
    return ids;
  }

  Seq2SeqSettings settings_;
  Tokenizer tokenizer_;
  int64_t source_length_;
  int32_t pad_;
  bool evaluation_;
  std::optional<LanguageFrame> source_frame_, target_frame_;
};

/// What is generated in an evaluation has to begin with the token of the target's language, as the model's files say.
void check_first_token(const Seq2SeqSettings& settings, const Tokenizer& tokenizer, const ModelInfo& info) {
  if (settings.target_language.empty() || settings.metrics.empty()) return;
  const int32_t language = language_token(tokenizer, "target_language", settings.target_language);
  const std::optional<int32_t> first =
      settings.language_first ? info.token_rules.forced_bos_token_id : info.decoder_start_token_id;
  if (first == language) return;
  const char* key = settings.language_first ? "forced_bos_token_id" : "decoder_start_token_id";
  throw UsageError(concat("objective.target_language ", quoted_name(settings.target_language), " is token ", language,
                          ", but texts that the model generates do not begin with it: its ", key, " is ",
                          first ? std::to_string(*first) : "not set"),
                   concat("set ", key, " in generation_config.json of the model, or objective.metrics to []"));
}

/// Generation ends at the model's end token, targets at the tokenizer's.
void check_end_token(const Tokenizer& tokenizer, const ModelInfo& info) {
  const std::optional<int32_t> end = tokenizer.special_token_id("eos");
  const std::vector<int32_t>& ends = info.eos_token_ids;
  if (!end || ends.empty() || std::find(ends.begin(), ends.end(), *end) != ends.end()) return;
  throw UsageError(concat("tokenizer does not fit the model: its end token is ", *end, ", the model's eos_token_id is ",
                          ends.front()));
}

class Seq2SeqFineTuning final : public Objective {
 public:
  explicit Seq2SeqFineTuning(const JsonReader& section) {
    settings_.source_prefix = section.get<std::string>("source_prefix", settings_.source_prefix);
    settings_.max_target_length = section.get<int64_t>("max_target_length", settings_.max_target_length, at_least(1));
    settings_.metrics = section.get("metrics", settings_.metrics);
    for (const std::string& metric : settings_.metrics) {
      if (metric != "bleu" && metric != "chrf" && metric != "rouge") {
        section.fail("metrics", concat(quoted_name(metric), " is none of \"bleu\", \"chrf\", \"rouge\""));
      }
    }
    settings_.beams = section.get<int64_t>("beams", settings_.beams, between(1, 64));
    settings_.length_penalty = section.get("length_penalty", settings_.length_penalty);
    settings_.source_language = section.get<std::string>("source_language", "");
    settings_.target_language = section.get<std::string>("target_language", "");
    settings_.language_first = section.get_enum("language_position", "suffix", {"suffix", "prefix"}) == "prefix";
    if (settings_.source_language.empty() != settings_.target_language.empty()) {
      section.fail(settings_.source_language.empty() ? "source_language" : "target_language",
                   "both languages are needed, or neither");
    }
  }

  std::string settings() const override {
    Json out = {{"type", "seq2seq"},
                {"source_prefix", settings_.source_prefix},
                {"max_target_length", settings_.max_target_length},
                {"metrics", settings_.metrics},
                {"beams", settings_.beams},
                {"length_penalty", settings_.length_penalty}};
    if (!settings_.source_language.empty()) {
      out["source_language"] = settings_.source_language;
      out["target_language"] = settings_.target_language;
      out["language_position"] = settings_.language_first ? "prefix" : "suffix";
    }
    return out.dump();
  }

  std::shared_ptr<const RecordEncoder> record_encoder(const RecordContext& context) const override {
    const ModelInfo& info = context.model.info();
    if (info.head != Head::sequence_to_sequence) {
      throw UsageError(concat("objective \"seq2seq\" needs an encoder-decoder, not a ", info.model_type, " model (",
                              info.architecture, ")"),
                       "decoders learn prompts and completions with the objective \"sft\"");
    }
    if (context.tokenizer == nullptr) throw UsageError("objective \"seq2seq\" needs a tokenizer (tokenizer.path)");
    if (info.max_positions > 0 && settings_.max_target_length > info.max_positions) {
      throw UsageError(concat("objective.max_target_length is ", settings_.max_target_length, ", the model allows ",
                              info.max_positions, " positions"));
    }
    check_end_token(*context.tokenizer, info);
    check_first_token(settings_, *context.tokenizer, info);
    return std::make_shared<Seq2SeqEncoder>(settings_, context);
  }

  /// Without metrics nothing is generated.
  std::unique_ptr<Evaluator> evaluator(const EvaluatorContext& context) const override {
    if (settings_.metrics.empty()) return nullptr;
    return make_seq2seq_evaluator({.metrics = settings_.metrics,
                                   .max_new_tokens = settings_.max_target_length,
                                   .beams = settings_.beams,
                                   .length_penalty = settings_.length_penalty},
                                  context);
  }

 private:
  Seq2SeqSettings settings_;
};

}  // namespace

std::unique_ptr<Objective> objectives::make_seq2seq(const JsonReader& section) {
  return std::make_unique<Seq2SeqFineTuning>(section);
}

}  // namespace ondol
