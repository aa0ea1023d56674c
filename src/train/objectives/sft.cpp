// Supervised fine-tuning of language models on conversations, instructions and prompts: the model learns what the
// assistant says, token by token, with all that stands before it as context.
#include <ondol/data/documents.h>
#include <ondol/generate/chat_template.h>
#include <ondol/train/text_encoder.h>

#include "data/record_encoder.h"
#include "train/objectives/conversation.h"
#include "train/objectives/objectives.h"

namespace ondol {

namespace {

struct SftSettings {
  std::string loss_on = "assistant";  // assistant, all
  std::string too_long = "truncate";  // truncate, drop
  std::string separator;              // between a prompt and its completion
};

class SftEncoder final : public RecordEncoder {
 public:
  SftEncoder(const SftSettings& settings, const RecordContext& context)
      : settings_(settings),
        tokenizer_(*context.tokenizer),
        chat_(ChatTemplate::of(tokenizer_)),
        length_(context.sequence_length),
        pad_(context.model.info().pad_token_id.value_or(0)) {}

  std::vector<SampleColumn> columns() const override {
    return {{.name = "input_ids", .padding = pad_, .limit = length_},
            {.name = "labels", .padding = kIgnoreIndex, .limit = length_}};
  }

  uint64_t fingerprint() const override {
    uint64_t value = mix_fingerprint(make_text_encoder(tokenizer_).fingerprint, static_cast<uint64_t>(length_));
    for (const std::string& text :
         {settings_.loss_on, settings_.too_long, settings_.separator, tokenizer_.chat_template()}) {
      value = mix_fingerprint(value, text);
    }
    return value;
  }

  std::vector<std::string> fields() const override { return conversation_fields(); }
  bool can_pack() const override { return true; }

  void encode(const Record& record, EncodedRecord& out) const override {
    LabelledTokens tokens = tokens_of(record);
    if (settings_.loss_on == "all") tokens.labels = tokens.ids;
    if (static_cast<int64_t>(tokens.ids.size()) > length_) {
      if (settings_.too_long == "drop") return;
      tokens.ids.resize(static_cast<size_t>(length_));
      tokens.labels.resize(static_cast<size_t>(length_));
      out.truncated = true;
    }
    if (!tokens.has_target()) return;
    out.samples.push_back({.values = {std::move(tokens.ids), std::move(tokens.labels)}});
  }

 private:
  LabelledTokens tokens_of(const Record& record) const {
    if (is_plain_completion(record)) {
      return tokens_of_completion(tokenizer_, record.text("prompt") + settings_.separator, record.text("completion"));
    }
    const std::string conversation = conversation_of(record);
    try {
      return tokens_of_transcript(tokenizer_, chat_.render_transcript(conversation));
    } catch (const UsageError& error) {
      record.fail(error.what(), error.hint());
    }
  }

  SftSettings settings_;
  Tokenizer tokenizer_;
  ChatTemplate chat_;
  int64_t length_;
  int32_t pad_;
};

class SupervisedFineTuning final : public Objective {
 public:
  explicit SupervisedFineTuning(const JsonReader& section) {
    settings_.loss_on = section.get_enum("loss_on", settings_.loss_on, {"assistant", "all"});
    settings_.too_long = section.get_enum("too_long", settings_.too_long, {"truncate", "drop"});
    settings_.separator = section.get<std::string>("separator", settings_.separator);
  }

  std::string settings() const override {
    return Json{{"type", "sft"},
                {"loss_on", settings_.loss_on},
                {"too_long", settings_.too_long},
                {"separator", settings_.separator}}
        .dump();
  }

  std::shared_ptr<const RecordEncoder> record_encoder(const RecordContext& context) const override {
    if (context.model.info().head != Head::causal_language_model) {
      throw UsageError(concat("objective \"sft\" needs a model that predicts the next token, not a ",
                              context.model.info().model_type, " model (", context.model.info().architecture, ")"));
    }
    if (context.tokenizer == nullptr) throw UsageError("objective \"sft\" needs a tokenizer (tokenizer.path)");
    return std::make_shared<SftEncoder>(settings_, context);
  }

 private:
  SftSettings settings_;
};

}  // namespace

std::unique_ptr<Objective> objectives::make_sft(const JsonReader& section) {
  return std::make_unique<SupervisedFineTuning>(section);
}

}  // namespace ondol
