#include "train/objectives/encoder_inputs.h"

#include <algorithm>

#include <ondol/data/documents.h>
#include <ondol/train/text_encoder.h>

namespace ondol {

namespace {

const Tokenizer& tokenizer_of(const RecordContext& context, const std::string& objective) {
  if (context.tokenizer == nullptr) {
    throw UsageError(concat("objective \"", objective, "\" needs a tokenizer"),
                     "set \"tokenizer.path\", or start from a model directory that has one");
  }
  return *context.tokenizer;
}

bool takes(const Model& model, const std::string& name) {
  const std::vector<InputSpec> specs = model.inputs();
  return std::any_of(specs.begin(), specs.end(), [&](const InputSpec& spec) { return spec.name == name; });
}

/// Byte-level vocabularies spell the space before a word "\u0120".
bool marks_spaces(const Tokenizer& tokenizer) {
  const std::vector<int32_t> ids = tokenizer.encode(" a", {.add_special_tokens = false});
  return !ids.empty() && tokenizer.id_to_token(ids.front()).starts_with("\u0120");
}

}  // namespace

EncoderInputs::EncoderInputs(const RecordContext& context, const std::string& objective)
    : tokenizer_(tokenizer_of(context, objective)),
      max_length_(context.sequence_length),
      token_types_(takes(context.model, "token_type_ids")),
      padding_(context.model.info().pad_token_id.value_or(tokenizer_.special_token_id("pad").value_or(0))),
      space_before_words_(marks_spaces(tokenizer_)) {
  const int64_t limit = context.model.info().max_positions;
  if (max_length_ <= 0 || (limit > 0 && max_length_ > limit)) max_length_ = limit;
  const std::vector<int32_t> plain = tokenizer_.encode("a", {.add_special_tokens = false}),
                             framed = tokenizer_.encode("a");
  const auto text = std::search(framed.begin(), framed.end(), plain.begin(), plain.end());
  if (!plain.empty() && text != framed.end()) {
    before_.assign(framed.begin(), text);
    after_.assign(text + static_cast<ptrdiff_t>(plain.size()), framed.end());
  }
  const Encoding pair = tokenizer_.encode_pair("a", "a");
  const auto frame = static_cast<int64_t>(pair.ids.size() - 2 * plain.size());
  if (max_length_ > 0 && max_length_ <= frame) {
    throw UsageError(concat("data.sequence_length is ", max_length_, ", special tokens alone need ", frame));
  }
  fingerprint_ = mix_fingerprint(make_text_encoder(tokenizer_).fingerprint, static_cast<uint64_t>(max_length_));
  for (const int32_t id : pair.ids) fingerprint_ = mix_fingerprint(fingerprint_, static_cast<uint64_t>(id));
  fingerprint_ = mix_fingerprint(fingerprint_, static_cast<uint64_t>(token_types_));
  fingerprint_ = mix_fingerprint(fingerprint_, static_cast<uint64_t>(padding_));
}

std::vector<SampleColumn> EncoderInputs::columns() const {
  std::vector<SampleColumn> columns = {{.name = "input_ids", .padding = padding_, .limit = max_length_}};
  if (token_types_) columns.push_back({.name = "token_type_ids", .limit = max_length_});
  return columns;
}

SampleColumn EncoderInputs::token_labels() const {
  return {.name = "labels", .padding = kIgnoreIndex, .limit = max_length_};
}

std::vector<ColumnValues> EncoderInputs::values(EncodedTexts encoded) const {
  std::vector<ColumnValues> values = {std::move(encoded.ids)};
  if (token_types_) values.emplace_back(std::move(encoded.type_ids));
  return values;
}

EncodedTexts EncoderInputs::encode(const std::string& text, const std::string* pair) const {
  const auto run = [&](int64_t max_length) {
    const EncodeOptions options{.max_length = max_length};
    if (pair != nullptr) return tokenizer_.encode_pair(text, *pair, options);
    Encoding encoding;
    encoding.ids = tokenizer_.encode(text, options);
    encoding.type_ids.assign(encoding.ids.size(), 0);
    return encoding;
  };
  Encoding encoding = run(0);
  const bool truncated = max_length_ > 0 && static_cast<int64_t>(encoding.ids.size()) > max_length_;
  if (truncated) encoding = run(max_length_);
  return {std::move(encoding.ids), std::move(encoding.type_ids), {}, truncated};
}

EncodedTexts EncoderInputs::encode_words(const std::vector<std::string>& words) const {
  EncodedTexts out;
  const EncodeOptions plain{.add_special_tokens = false};
  for (size_t w = 0; w < words.size(); ++w) {
    const std::vector<int32_t> ids = tokenizer_.encode(space_before_words_ ? " " + words[w] : words[w], plain);
    out.ids.insert(out.ids.end(), ids.begin(), ids.end());
    out.word_ids.resize(out.ids.size(), static_cast<int32_t>(w));
  }
  if (max_length_ > 0) {
    const size_t room = static_cast<size_t>(max_length_) - before_.size() - after_.size();
    out.truncated = out.ids.size() > room;
    out.ids.resize(std::min(out.ids.size(), room));
    out.word_ids.resize(out.ids.size());
  }
  out.ids.insert(out.ids.begin(), before_.begin(), before_.end());
  out.word_ids.insert(out.word_ids.begin(), before_.size(), -1);
  out.ids.insert(out.ids.end(), after_.begin(), after_.end());
  out.word_ids.resize(out.ids.size(), -1);
  out.type_ids.assign(out.ids.size(), 0);
  return out;
}

RecordTexts::RecordTexts(const Record& record) : text(record.text("text")) {
  if (record.find("text_pair") != nullptr || record.is_mapped("text_pair")) pair = record.text("text_pair");
}

}  // namespace ondol
