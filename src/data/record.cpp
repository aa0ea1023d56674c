#include "data/record.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace ondol {

namespace {

bool is_blank(const std::string& text) { return text.find_first_not_of(" \t\r\n\f\v") == std::string::npos; }

std::string kind_of(const Json& value) { return value.is_string() ? "a text" : value.type_name(); }

}  // namespace

std::string Record::place() const {
  const std::string& file = file_ == nullptr ? "" : *file_;
  return is_line_ ? concat(file, ":", number_) : concat(file, ", element ", number_);
}

void Record::fail(const std::string& why, const std::string& hint) const {
  throw Error(concat("cannot use example: ", why, " (", place(), ")"), hint);
}

std::string Record::file_name_of(const std::string& field) const {
  if (fields_ == nullptr) return field;
  const auto mapped = fields_->find(field);
  return mapped == fields_->end() ? field : mapped->second;
}

std::string Record::label_of(const std::string& field) const { return quoted_name(file_name_of(field)); }

const Json* Record::find(const std::string& field) const {
  const std::string name = file_name_of(field);
  const Json* at = &value_;
  if (const auto whole = value_.find(name); whole != value_.end()) {
    at = &*whole;
  } else {  // "a.b" is b of the object a
    for (size_t begin = 0; begin <= name.size();) {
      const size_t end = std::min(name.find('.', begin), name.size());
      if (!at->is_object()) return nullptr;
      const auto next = at->find(name.substr(begin, end - begin));
      if (next == at->end()) return nullptr;
      at = &*next;
      begin = end + 1;
    }
  }
  return at->is_null() ? nullptr : at;
}

const Json& Record::require(const std::string& field) const {
  if (const Json* found = find(field)) return *found;
  std::string others;
  for (const auto& [name, value] : value_.items()) {
    if (others.size() > 200) {
      others += ", …";
      break;
    }
    others += (others.empty() ? "" : ", ") + quoted_name(name);
  }
  fail(concat("no field ", label_of(field), ", it has ", others.empty() ? "none" : others),
       "data.fields says what fields are called in the files, data.columns names the columns of tables without a "
       "header");
}

std::string Record::any_text(const std::string& field) const {
  const Json& value = require(field);
  if (!value.is_string()) fail(concat("field ", label_of(field), " must be a text, not ", kind_of(value)));
  return value.get<std::string>();
}

std::string Record::text(const std::string& field) const {
  std::string text = any_text(field);
  if (is_blank(text)) fail(concat("field ", label_of(field), " is empty"));
  return text;
}

const Json& Record::list(const std::string& field) const {
  const Json& value = require(field);
  if (!value.is_array()) fail(concat("field ", label_of(field), " must be a list, not ", kind_of(value)));
  return value;
}

std::vector<std::string> Record::texts(const std::string& field) const {
  std::vector<std::string> texts;
  for (const Json& item : list(field)) {
    if (!item.is_string()) fail(concat("field ", label_of(field), " must hold texts, not ", kind_of(item)));
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

double Record::number(const std::string& field) const {
  const Json& value = require(field);
  double number = 0.0;
  if (value.is_number()) {
    number = value.get<double>();
  } else {
    const std::string text = value.is_string() ? value.get<std::string>() : "";
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
      fail(concat("field ", label_of(field), " must be a number, not ",
                  value.is_string() ? quoted_name(text) : kind_of(value)));
    }
  }
  if (!std::isfinite(number)) fail(concat("field ", label_of(field), " is not finite"));
  return number;
}

std::string Record::name_of(const Json& value, const std::string& field) const {
  if (value.is_number_integer()) return value.dump();
  if (!value.is_string()) {
    fail(concat("field ", label_of(field), " must be a text or a whole number, not ", kind_of(value)));
  }
  std::string name = value.get<std::string>();
  if (is_blank(name)) fail(concat("field ", label_of(field), " is empty"));
  return name;
}

std::string Record::name(const std::string& field) const { return name_of(require(field), field); }

std::vector<std::string> Record::names(const std::string& field) const {
  std::vector<std::string> names;
  for (const Json& item : list(field)) names.push_back(name_of(item, field));
  return names;
}

}  // namespace ondol
