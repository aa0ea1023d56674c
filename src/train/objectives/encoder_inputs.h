// The inputs of an encoder from texts, pairs of texts and lists of words: what the objectives of fine-tuning share.
//
//   const EncoderInputs inputs(context, "classification");
//   std::vector<SampleColumn> columns = inputs.columns();               // input_ids, and token_type_ids where taken
//   EncodedTexts encoded = inputs.encode("a text", &pair);
//   sample.values = inputs.values(encoded);
//
// Texts that are too long are cut as Hugging Face tokenizers do with truncation=True: of a pair the longer one loses
// tokens first, then both alike; of a list of words the last ones go.
#pragma once

#include <string>
#include <vector>

#include <ondol/tokenizer/tokenizer.h>
#include <ondol/train/objective.h>

#include "data/record_encoder.h"

namespace ondol {

struct EncodedTexts {
  std::vector<int32_t> ids, type_ids;
  std::vector<int32_t> word_ids;  // of encode_words: the number of each token's word, -1 for special tokens
  bool truncated = false;
};

class EncoderInputs {
 public:
  /// Throws UsageError when there is no tokenizer, or no room for text.
  EncoderInputs(const RecordContext& context, const std::string& objective);

  std::vector<SampleColumn> columns() const;
  /// A column of one value for each token, with -100 behind the text.
  SampleColumn token_labels() const;
  std::vector<ColumnValues> values(EncodedTexts encoded) const;
  uint64_t fingerprint() const { return fingerprint_; }
  int64_t max_length() const { return max_length_; }

  EncodedTexts encode(const std::string& text, const std::string* pair = nullptr) const;
  /// Every word by itself, with a space before it where the vocabulary marks spaces.
  EncodedTexts encode_words(const std::vector<std::string>& words) const;

 private:
  Tokenizer tokenizer_;
  int64_t max_length_;
  bool token_types_;
  int32_t padding_;
  bool space_before_words_ = false;
  std::vector<int32_t> before_, after_;  // special tokens around a text
  uint64_t fingerprint_ = 0;
};

/// The text of a record and, where it has one (or data.fields names one), the second text.
struct RecordTexts {
  std::string text;
  std::optional<std::string> pair;
  explicit RecordTexts(const Record& record);
};

}  // namespace ondol
