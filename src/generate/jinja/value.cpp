#include "generate/jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace ondol::jinja {

void Value::Extent::include(const Value& element) {
  const auto* mapping = std::get_if<std::shared_ptr<DictData>>(&element.data_);
  if (mapping != nullptr && (*mapping)->is_namespace) throw Failure{"a namespace cannot be part of another value"};
  const Extent inner = element.extent();
  depth = std::max(depth, inner.depth + 1);
  size += inner.size;
  if (depth > kMaxValueDepth) throw Failure{"values are nested too deeply"};
  if (size > kMaxValueSize) throw Failure{"a value has too many elements"};
}

Value::Extent Value::extent() const {
  if (is_list()) return std::get<std::shared_ptr<ListData>>(data_)->extent;
  if (is_dict()) return std::get<std::shared_ptr<DictData>>(data_)->extent;
  return {};
}

Value::Value(List items) {
  Extent extent;
  for (const Value& item : items) extent.include(item);
  data_ = std::make_shared<ListData>(ListData{std::move(items), extent});
}

Value::Value(Dict items) {
  Extent extent;
  for (const auto& [key, item] : items) extent.include(item);
  data_ = std::make_shared<DictData>(DictData{std::move(items), extent, false});
}

Value Value::make_namespace(Dict items) {
  const Value made{Dict{}};
  std::get<std::shared_ptr<DictData>>(made.data_)->is_namespace = true;
  for (auto& [key, item] : items) made.set(key, std::move(item));
  return made;
}

void Value::wrong_kind(const char* wanted, const char* use) const {
  const auto* missing = std::get_if<Undefined>(&data_);
  if (missing != nullptr && !missing->name.empty()) throw Failure{"'" + missing->name + "' is undefined"};
  throw Failure{std::string(use) + " needs " + wanted + ", not " + kind()};
}

int64_t Value::integer(const char* use) const {
  if (is_boolean()) return std::get<bool>(data_) ? 1 : 0;
  if (!is_integer()) wrong_kind("an integer", use);
  return std::get<int64_t>(data_);
}

double Value::number(const char* use) const {
  if (is_float()) return std::get<double>(data_);
  if (!is_number()) wrong_kind("a number", use);
  return static_cast<double>(integer(use));
}

const std::string& Value::string(const char* use) const {
  if (!is_string()) wrong_kind("a string", use);
  return std::get<std::string>(data_);
}

const List& Value::list(const char* use) const {
  if (!is_list()) wrong_kind("a list", use);
  return std::get<std::shared_ptr<ListData>>(data_)->items;
}

const Dict& Value::dict(const char* use) const {
  if (!is_dict()) wrong_kind("a mapping", use);
  return std::get<std::shared_ptr<DictData>>(data_)->items;
}

const Function& Value::function() const {
  if (!is_function()) wrong_kind("a function", "a call");
  return *std::get<std::shared_ptr<Function>>(data_);
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return number("") != 0.0;
  if (is_string()) return !std::get<std::string>(data_).empty();
  if (is_list()) return !list("").empty();
  if (is_dict()) return !dict("").empty();
  return true;
}

std::string Value::kind() const {
  if (is_undefined()) return "an undefined value";
  if (is_none()) return "none";
  if (is_boolean()) return "a boolean";
  if (is_integer()) return "an integer";
  if (is_float()) return "a float";
  if (is_string()) return "a string";
  if (is_list()) return "a list";
  if (is_dict()) return "a mapping";
  return "a function";
}

std::string Value::text() const {
  if (is_undefined()) return "";
  return is_string() ? std::get<std::string>(data_) : repr();
}

namespace {

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const double magnitude = std::fabs(value);
  const bool plain = magnitude == 0.0 || (magnitude >= 1e-4 && magnitude < 1e16);
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific)
                       .ptr;
  std::string text(buffer, end);
  return plain && text.find('.') == std::string::npos ? text + ".0" : text;
}

std::string quoted(const std::string& text) {
  const char quote = text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    if (c == quote || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else {
      out += c;
    }
  }
  return out + quote;
}

std::string json_string(const std::string& text) {
  static const char* digits = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += std::string("\\u00") + digits[c >> 4] + digits[c & 15];
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

void check_length(const std::string& text) {
  if (text.size() > kMaxText) throw Failure{"the text is too long"};
}

class JsonWriter {
 public:
  explicit JsonWriter(int indent) : indent_(indent) {}

  std::string write(const Value& value) {
    append(value, 0);
    return std::move(out_);
  }

 private:
  void line(int depth) {
    if (indent_ >= 0) out_.append("\n").append(static_cast<size_t>(indent_ * depth), ' ');
    check_length(out_);
  }

  /// Before each element.
  void separate(bool first, int depth) {
    if (!first) out_ += indent_ < 0 ? ", " : ",";
    line(depth);
  }

  void append(const Value& value, int depth) {
    if (value.is_undefined()) throw Failure{"tojson of an undefined value"};
    if (value.is_function()) throw Failure{"tojson of a function"};
    bool first = true;
    if (value.is_list()) {
      out_ += '[';
      for (const Value& item : value.list("")) {
        separate(std::exchange(first, false), depth + 1);
        append(item, depth + 1);
      }
      if (!first) line(depth);
      out_ += ']';
    } else if (value.is_dict()) {
      out_ += '{';
      for (const auto& [key, item] : value.dict("")) {
        separate(std::exchange(first, false), depth + 1);
        out_ += json_string(key) + ": ";
        append(item, depth + 1);
      }
      if (!first) line(depth);
      out_ += '}';
    } else if (value.is_string()) {
      out_ += json_string(value.string(""));
    } else {
      out_ += value.is_none() ? "null" : !value.is_boolean() ? value.repr() : value.truth() ? "true" : "false";
    }
    check_length(out_);
  }

  int indent_;
  std::string out_;
};

}  // namespace

std::string Value::repr() const {
  std::string out;
  append_repr(out);
  return out;
}

void Value::append_repr(std::string& out) const {
  check_length(out);
  bool first = true;
  if (is_list()) {
    out += '[';
    for (const Value& item : list("")) {
      if (!std::exchange(first, false)) out += ", ";
      item.append_repr(out);
    }
    out += ']';
  } else if (is_dict()) {
    out += '{';
    for (const auto& [key, item] : dict("")) {
      if (!std::exchange(first, false)) out += ", ";
      out += quoted(key) + ": ";
      item.append_repr(out);
    }
    out += '}';
  } else if (is_string()) {
    out += quoted(std::get<std::string>(data_));
  } else if (is_integer()) {
    out += std::to_string(std::get<int64_t>(data_));
  } else if (is_float()) {
    out += float_text(std::get<double>(data_));
  } else if (is_boolean()) {
    out += truth() ? "True" : "False";
  } else {
    out += is_none() ? "None" : is_function() ? "<function>" : "Undefined";
  }
}

List Value::elements(const char* use) const {
  if (is_undefined()) return {};
  if (is_list()) return list(use);
  List items;
  if (is_string()) {
    for (std::string& character : characters(string(use))) items.emplace_back(std::move(character));
    return items;
  }
  if (!is_dict()) wrong_kind("something with elements", use);
  for (const auto& [key, item] : dict(use)) items.emplace_back(key);
  return items;
}

const Value* Value::find(const std::string& key) const {
  for (const auto& [name, item] : dict("a key")) {
    if (name == key) return &item;
  }
  return nullptr;
}

void Value::set(const std::string& key, Value value) const {
  dict("an assignment");
  DictData& mapping = *std::get<std::shared_ptr<DictData>>(data_);
  if (!mapping.is_namespace) throw Failure{"attributes can only be set of a namespace"};
  if (value.is_function()) throw Failure{"a namespace cannot hold a function"};
  Extent extent;
  Value* place = nullptr;
  for (auto& [name, item] : mapping.items) {
    if (name == key) {
      place = &item;
    } else {
      extent.include(item);
    }
  }
  extent.include(value);
  mapping.extent = extent;
  if (place != nullptr) {
    *place = std::move(value);
  } else {
    mapping.items.emplace_back(key, std::move(value));
  }
}

Value Arguments::get(size_t position, const char* name) const {
  if (position < positional.size()) return positional[position];
  for (const auto& [key, value] : named) {
    if (key == name) return value;
  }
  return {};
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (!a.is_float() && !b.is_float()) return a.integer("") == b.integer("");
    return a.number("") == b.number("");
  }
  if (a.is_string() && b.is_string()) return a.string("") == b.string("");
  if (a.is_list() && b.is_list()) {
    const List &x = a.list(""), &y = b.list("");
    if (x.size() != y.size()) return false;
    for (size_t i = 0; i < x.size(); ++i) {
      if (!equal(x[i], y[i])) return false;
    }
    return true;
  }
  if (a.is_dict() && b.is_dict()) {
    if (a.dict("").size() != b.dict("").size()) return false;
    for (const auto& [key, item] : a.dict("")) {
      const Value* other = b.find(key);
      if (other == nullptr || !equal(item, *other)) return false;
    }
    return true;
  }
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

bool less(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return a.number("") < b.number("");
  if (a.is_string() && b.is_string()) return a.string("") < b.string("");
  throw Failure{"cannot compare " + a.kind() + " with " + b.kind()};
}

bool contains(const Value& container, const Value& item) {
  if (container.is_string()) return container.string("").find(item.string("'in' a string")) != std::string::npos;
  if (container.is_dict()) return item.is_string() && container.find(item.string("")) != nullptr;
  for (const Value& element : container.elements("'in'")) {
    if (equal(element, item)) return true;
  }
  return false;
}

std::string to_json(const Value& value, int indent) { return JsonWriter(indent).write(value); }

std::vector<std::string> characters(const std::string& text) {
  std::vector<std::string> out;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) == 0x80 && !out.empty()) {
      out.back() += c;
    } else {
      out.emplace_back(1, c);
    }
  }
  return out;
}

}  // namespace ondol::jinja
