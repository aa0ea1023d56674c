// One structured example of a data file: a JSON object, a row of a table, a pair of lines.
//
//   for (Record record; reader.next(record);) {
//     std::string text = record.text("text");            // the field that data.fields maps "text" to
//     const Json* pair = record.find("text_pair");       // null: absent
//   }
//
// Fields are asked for by the names that an objective gives them; data.fields says what they are called in the files
// ("translation.en" is "en" of the object "translation"). Every failure names field and place.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json_reader.h"

namespace ondol {

/// An objective's name of a field to its name in the files.
using FieldMap = std::map<std::string, std::string>;

class Record {
 public:
  Record() = default;
  /// `number` counts from 1: lines of the file, or elements of a JSON document.
  Record(Json value, std::shared_ptr<const std::string> file, int64_t number, bool is_line,
         std::shared_ptr<const FieldMap> fields)
      : value_(std::move(value)),
        file_(std::move(file)),
        number_(number),
        is_line_(is_line),
        fields_(std::move(fields)) {}

  const Json& value() const { return value_; }
  /// "train.tsv:17", or "train.json, element 17".
  std::string place() const;
  int64_t number() const { return number_; }
  bool counts_lines() const { return is_line_; }

  /// Whether data.fields says what the field is called.
  bool is_mapped(const std::string& field) const { return fields_ != nullptr && fields_->contains(field); }
  /// Null when the field is absent or JSON null.
  const Json* find(const std::string& field) const;
  const Json& require(const std::string& field) const;
  /// Text that holds more than white space.
  std::string text(const std::string& field) const;
  /// Any text, also an empty one.
  std::string any_text(const std::string& field) const;
  /// A list of texts.
  std::vector<std::string> texts(const std::string& field) const;
  /// A finite number, also one that is spelled in a text.
  double number(const std::string& field) const;
  /// A text or a whole number, as text.
  std::string name(const std::string& field) const;
  /// A list of texts or whole numbers, as texts.
  std::vector<std::string> names(const std::string& field) const;

  /// The field as the file calls it, quoted.
  std::string label_of(const std::string& field) const;
  /// Throws Error `cannot use example: WHY (PLACE)`.
  [[noreturn]] void fail(const std::string& why, const std::string& hint = "") const;

 private:
  std::string file_name_of(const std::string& field) const;
  std::string name_of(const Json& value, const std::string& field) const;
  const Json& list(const std::string& field) const;

  Json value_;
  std::shared_ptr<const std::string> file_;
  int64_t number_ = 0;
  bool is_line_ = true;
  std::shared_ptr<const FieldMap> fields_;
};

}  // namespace ondol
