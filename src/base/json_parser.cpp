#include <ondol/base/file.h>

#include "base/json_reader.h"
#include "base/throw_as.h"

namespace ondol {

namespace {

// Builds the document from parser events, so that a repeated key or too deep a nesting stops the parser on the spot.
class DocumentBuilder {
 public:
  DocumentBuilder(Json& root, int max_depth) : root_(root), max_depth_(max_depth) {}

  bool null() { return add(Json(nullptr)) != nullptr; }
  bool boolean(bool value) { return add(Json(value)) != nullptr; }
  bool number_integer(Json::number_integer_t value) { return add(Json(value)) != nullptr; }
  bool number_unsigned(Json::number_unsigned_t value) { return add(Json(value)) != nullptr; }
  bool number_float(Json::number_float_t value, const std::string&) { return add(Json(value)) != nullptr; }
  bool string(std::string& value) { return add(Json(std::move(value))) != nullptr; }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    const auto [entry, inserted] = open_.back()->get_ref<Json::object_t&>().emplace(std::move(name), nullptr);
    if (!inserted) return refuse(concat("duplicate key ", quoted_name(entry->first)));
    slot_ = &entry->second;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const Json::exception& error) {
    position_ = position;
    message_ = error.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: WHY": only WHY is for the user.
    for (const std::string_view mark : {"column ", "] "}) {
      const size_t at = message_.find(mark);
      if (at == std::string::npos) continue;
      const size_t colon = mark == "] " ? at : message_.find(": ", at);
      if (colon != std::string::npos) message_ = message_.substr(colon + 2);
      break;
    }
    return false;
  }

  const std::string& message() const { return message_; }
  /// Bytes read when the parser gave up; 0 when it is not known.
  size_t position() const { return position_; }

 private:
  Json* add(Json&& value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      auto& items = open_.back()->get_ref<Json::array_t&>();
      items.push_back(std::move(value));
      return &items.back();
    }
    *slot_ = std::move(value);
    return slot_;
  }
  bool open(Json&& container) {
    if (static_cast<int>(open_.size()) >= max_depth_) return refuse(concat("nested deeper than ", max_depth_));
    open_.push_back(add(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  bool refuse(std::string why) {
    message_ = std::move(why);
    return false;
  }

  Json& root_;
  int max_depth_;
  std::vector<Json*> open_;  // a container grows only while it is the innermost one, so the pointers hold
  Json* slot_ = nullptr;
  std::string message_;
  size_t position_ = 0;
};

// One printable line of bounded length: the parser quotes what it read last, which may be anything.
std::string one_line(const std::string& message) {
  std::string text;
  for (const char c : message.substr(0, 240)) {
    if (static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7f) text += c;
  }
  return message.size() > 240 ? text + "..." : text;
}

std::string place(std::string_view text, size_t position) {
  const size_t end = std::min(position > 0 ? position - 1 : 0, text.size());
  size_t line = 1, line_start = 0;
  for (size_t i = 0; i < end; ++i) {
    if (text[i] == '\n') {
      ++line;
      line_start = i + 1;
    }
  }
  return concat("line ", line, ", column ", end - line_start + 1);
}

}  // namespace

std::string quoted_name(const std::string& name) {
  const std::string text = Json(name.substr(0, 120)).dump(-1, ' ', true, Json::error_handler_t::replace);
  return name.size() > 120 ? text + "..." : text;
}

Json parse_json(std::string_view text, const std::string& name, ErrorKind kind, const JsonLimits& limits) {
  const auto fail = [&](const std::string& why) {
    throw_as(kind, concat("cannot parse JSON: ", why, " (", name, ")"));
  };
  if (text.size() > limits.max_bytes) fail(concat(text.size(), " bytes, at most ", limits.max_bytes, " are expected"));
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff")) fail("the file is UTF-16, expected UTF-8");
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  if (text.empty()) fail("the file is empty");
  Json document;
  DocumentBuilder builder(document, limits.max_depth);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    const std::string where = builder.position() > 0 ? " at " + place(text, builder.position()) : "";
    fail(one_line(builder.message()) + where);
  }
  return document;
}

Json load_json(const std::string& path, ErrorKind kind, const JsonLimits& limits) {
  std::string text;
  try {
    text = read_file(path, limits.max_bytes);
  } catch (const Error& error) {
    throw_as(kind, error.what(), error.hint());
  }
  return parse_json(text, path, kind, limits);
}

}  // namespace ondol
