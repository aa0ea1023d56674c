#include "base/json_reader.h"

#include <cmath>

#include "base/nearest_name.h"
#include "base/throw_as.h"

namespace ondol {

namespace {

const Json& empty_object() {
  static const Json object = Json::object();
  return object;
}

const Json& null_value() {
  static const Json value;
  return value;
}

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

std::string number_text(double value) {
  std::ostringstream out;
  out.precision(15);
  out << value;
  return out.str();
}

std::string list_of(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

JsonReader::JsonReader(const Json& document, std::string file, ErrorKind kind)
    : JsonReader(std::make_shared<Document>(Document{std::move(file), kind, {}, {}}), document, "") {}

JsonReader::JsonReader(std::shared_ptr<Document> document, const Json& object, std::string path)
    : document_(std::move(document)), object_(&object), path_(std::move(path)) {
  if (!object.is_object()) {
    if (path_.empty()) {
      throw_as(document_->kind, concat("cannot read configuration: expected a JSON object, got ", object.type_name(),
                                       " (", file(), ")"));
    }
    fail_at(path_, "expected an object, got " + shown(object));
  }
  document_->objects[path_] = object_;
}

const std::string& JsonReader::file() const { return document_->file; }

const Json* JsonReader::find(const std::string& key) const {
  document_->known.insert(dotted(key));
  const auto entry = object_->find(key);
  return entry == object_->end() || entry->is_null() ? nullptr : &*entry;
}

void JsonReader::fail_at(const std::string& path, const std::string& why, const std::string& hint) const {
  throw_as(document_->kind, concat("key \"", path, "\": ", why, " (", file(), ")"), hint);
}

void JsonReader::fail(const std::string& key, const std::string& why, const std::string& hint) const {
  fail_at(dotted(key), why, hint);
}

void JsonReader::fail_missing(const std::string& key) const {
  std::vector<std::string> present;
  for (const auto& [name, value] : object_->items()) {
    if (!document_->known.contains(dotted(name))) present.push_back(name);
  }
  const std::string near = nearest_name(key, present);
  throw_as(document_->kind, concat("missing key \"", dotted(key), "\": it has no default (", file(), ")"),
           near.empty() ? "" : concat("\"", dotted(near), "\" is there; was \"", key, "\" meant?"));
}

std::string JsonReader::get_enum(const std::string& key, const std::string& fallback,
                                 const std::vector<std::string>& allowed) const {
  return has(key) ? require_enum(key, allowed) : fallback;
}

std::string JsonReader::require_enum(const std::string& key, const std::vector<std::string>& allowed) const {
  const std::string value = require<std::string>(key);
  for (const std::string& name : allowed) {
    if (name == value) return value;
  }
  const std::string near = nearest_name(value, allowed);
  fail(key, concat("unknown value ", shown(Json(value)), ", expected one of ", list_of(allowed)),
       near.empty() ? "" : concat("did you mean \"", near, "\"?"));
}

JsonReader JsonReader::child(const std::string& key) const {
  const Json* value = find(key);
  return JsonReader(document_, value == nullptr ? empty_object() : *value, dotted(key));
}

JsonReader JsonReader::require_child(const std::string& key) const {
  if (!has(key)) fail_missing(key);
  return child(key);
}

std::vector<JsonReader> JsonReader::children(const std::string& key) const {
  std::vector<JsonReader> readers;
  const Json* value = find(key);
  if (value == nullptr) return readers;
  check_array(*value, dotted(key));
  for (size_t i = 0; i < value->size(); ++i) {
    readers.push_back(JsonReader(document_, (*value)[i], concat(dotted(key), "[", i, "]")));
  }
  return readers;
}

const Json& JsonReader::raw(const std::string& key) const {
  const Json* value = find(key);
  return value == nullptr ? null_value() : *value;
}

void JsonReader::finish() const {
  for (const auto& [path, object] : document_->objects) {
    for (const auto& [key, value] : object->items()) {
      const std::string name = path.empty() ? key : path + "." + key;
      if (document_->known.contains(name)) continue;
      std::vector<std::string> candidates;
      for (const std::string& known : document_->known) {
        if (!name.starts_with(known + ".")) candidates.push_back(known);  // not the section that it stands in
      }
      const std::string near = nearest_name(name, candidates);
      throw_as(document_->kind, concat("unknown key \"", name, "\": not a configuration key (", file(), ")"),
               near.empty() ? "" : concat("did you mean \"", near, "\"?"));
    }
  }
}

bool JsonReader::to_bool(const Json& value, const std::string& path) const {
  if (!value.is_boolean()) fail_at(path, "expected true or false, got " + shown(value));
  return value.get<bool>();
}

std::string JsonReader::to_text(const Json& value, const std::string& path) const {
  if (!value.is_string()) fail_at(path, "expected a string, got " + shown(value));
  return value.get<std::string>();
}

void JsonReader::check_array(const Json& value, const std::string& path) const {
  if (!value.is_array()) fail_at(path, "expected an array, got " + shown(value));
}

uint64_t JsonReader::to_unsigned(const Json& value, const std::string& path) const {
  if (!value.is_number_unsigned()) fail_at(path, "expected an integer of at least 0, got " + shown(value));
  return value.get<uint64_t>();
}

int64_t JsonReader::to_int(const Json& value, const std::string& path, int64_t low, int64_t high,
                           const JsonRange& range) const {
  int64_t number = 0;
  if (value.is_number_unsigned()) {
    const uint64_t large = value.get<uint64_t>();
    if (large > static_cast<uint64_t>(high)) fail_at(path, concat("must be at most ", high, ", got ", large));
    number = static_cast<int64_t>(large);
  } else if (value.is_number_integer()) {
    number = value.get<int64_t>();
  } else if (value.is_number_float()) {
    constexpr double kExact = 9007199254740992.0;  // 2^53: beyond it a double no longer names one integer
    const double real = value.get<double>();
    if (!(std::fabs(real) <= kExact) || real != std::floor(real)) {
      fail_at(path, "expected an integer, got " + shown(value));
    }
    number = static_cast<int64_t>(real);
  } else {
    fail_at(path, "expected an integer, got " + shown(value));
  }
  if (number < low) fail_at(path, concat("must be at least ", low, ", got ", number));
  if (number > high) fail_at(path, concat("must be at most ", high, ", got ", number));
  to_double(Json(number), path, range);
  return number;
}

double JsonReader::to_double(const Json& value, const std::string& path, const JsonRange& range) const {
  if (!value.is_number()) fail_at(path, "expected a number, got " + shown(value));
  const double number = value.get<double>();
  if (number < range.low || (range.low_open && number == range.low)) {
    fail_at(path, concat("must be ", range.low_open ? "above " : "at least ", number_text(range.low), ", got ",
                         shown(value)));
  }
  if (number > range.high || (range.high_open && number == range.high)) {
    fail_at(path, concat("must be ", range.high_open ? "below " : "at most ", number_text(range.high), ", got ",
                         shown(value)));
  }
  return number;
}

}  // namespace ondol
