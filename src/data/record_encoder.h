// From a structured example to samples: what an objective that reads records gives the data layer.
//
//   class Encoder final : public RecordEncoder {
//     std::vector<SampleColumn> columns() const override {
//       return {{.name = "input_ids", .padding = pad_id, .limit = length}, {.name = "labels", .kind =
//       SampleColumn::scalar}};
//     }
//     void encode(const Record& record, EncodedRecord& out) const override {
//       out.samples.push_back({.values = {tokenizer.encode(record.text("text")), label_of(record)}});
//     }
//     ...
//   };
//
// The samples of all records lie in memory (4 bytes a value); a batch is padded to its longest row, rounded up to a
// multiple of 8.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include <ondol/base/dtype.h>

#include "data/record.h"

namespace ondol {

/// A tensor that samples are made of, by the name that the model's input has.
struct SampleColumn {
  enum Kind {
    sequence,         // (B, T): as long as the sample's input_ids
    target_sequence,  // (B, S): a length of their own, as labels and decoder_input_ids beside an encoder
    scalar,           // (B)
    row,              // (B, width)
  };
  std::string name;
  Kind kind = sequence;
  DType dtype = DType::i32;  // or f32
  int32_t padding = 0;       // of sequences
  int64_t limit = 0;         // of sequences: what rounding up does not go beyond; 0: none
  int64_t width = 1;         // of rows
};

using ColumnValues = std::variant<std::vector<int32_t>, std::vector<float>>;

struct EncodedSample {
  std::vector<ColumnValues> values;  // one for each column; scalars are lists of one
  /// Kept as it is for whoever evaluates (DataLoader::origin); only worth it where RecordContext::evaluation is set.
  std::string reference = {};
};

struct EncodedRecord {
  std::vector<EncodedSample> samples;  // none: the record is left out, and counted
  bool truncated = false;              // text was cut off
};

class RecordEncoder {
 public:
  virtual ~RecordEncoder() = default;

  /// The first one is "input_ids". attention_mask follows from the lengths, and so does decoder_attention_mask where
  /// there is a "decoder_input_ids".
  virtual std::vector<SampleColumn> columns() const = 0;
  /// Of everything that samples follow from besides the record.
  virtual uint64_t fingerprint() const = 0;
  /// The fields that it reads: data.fields may map these.
  virtual std::vector<std::string> fields() const = 0;
  /// Called from several threads at once. Record::fail names the place of what is wrong.
  virtual void encode(const Record& record, EncodedRecord& out) const = 0;

  /// The records of a .json file that is no array of objects. By default an error.
  virtual std::vector<Json> records_of(const Json& document, const std::string& file) const {
    throw_error("cannot read JSON: an array of objects is expected, not ", document.type_name(), " (", file, ")");
  }
  /// Whether several samples may share a row (data.packing); all columns are then of the kind `sequence`.
  virtual bool can_pack() const { return false; }
};

}  // namespace ondol
