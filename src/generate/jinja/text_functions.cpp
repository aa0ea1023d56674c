#include "generate/jinja/text_functions.h"

#include <algorithm>
#include <map>

#include "generate/jinja/builtins.h"

namespace ondol::jinja {

namespace {

using Method = Value (*)(const std::string& text, const Arguments& arguments);

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80) != 0; }
char to_upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }
char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

Value strip_method(const std::string& text, const Arguments& arguments, bool left, bool right) {
  const Value set = arguments.get(0, "chars");
  if (set.is_undefined() || set.is_none()) return strip(text, nullptr, left, right);
  return strip(text, &set.string("strip"), left, right);
}

Value split(const std::string& text, const Arguments& arguments) {
  const Value separator = arguments.get(0, "sep"), limit = arguments.get(1, "maxsplit");
  int64_t left = limit.is_undefined() ? -1 : limit.integer("split");
  List parts;
  if (separator.is_undefined() || separator.is_none()) {
    size_t at = 0;
    while (true) {
      at = text.find_first_not_of(" \t\n\r\f\v", at);
      if (at == std::string::npos) return parts;
      const size_t end = left == 0 ? text.size() : std::min(text.find_first_of(" \t\n\r\f\v", at), text.size());
      parts.emplace_back(text.substr(at, end - at));
      at = end;
      --left;
    }
  }
  const std::string& mark = separator.string("split");
  if (mark.empty()) throw Failure{"split at an empty string"};
  size_t at = 0;
  for (size_t found; left != 0 && (found = text.find(mark, at)) != std::string::npos; --left) {
    parts.emplace_back(text.substr(at, found - at));
    at = found + mark.size();
  }
  parts.emplace_back(text.substr(at));
  return parts;
}

Value split_lines(const std::string& text, const Arguments&) {
  List lines;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

Value replace(const std::string& text, const Arguments& arguments) {
  const std::string from = arguments.get(0, "old").string("replace"), to = arguments.get(1, "new").string("replace");
  const Value count = arguments.get(2, "count");
  int64_t left = count.is_undefined() || count.is_none() ? -1 : count.integer("replace");
  if (from.empty()) throw Failure{"replace of an empty string"};
  std::string out;
  size_t at = 0;
  for (size_t found; left != 0 && (found = text.find(from, at)) != std::string::npos; --left) {
    out.append(text, at, found - at).append(to);
    at = found + from.size();
    if (out.size() > kMaxText) throw Failure{"the text is too long"};
  }
  return out.append(text, at);
}

bool has_affix(const std::string& text, const Value& affixes, bool at_start) {
  for (const Value& affix : affixes.is_list() ? affixes.list("") : List{affixes}) {
    const std::string& part = affix.string(at_start ? "startswith" : "endswith");
    if (at_start ? text.starts_with(part) : text.ends_with(part)) return true;
  }
  return false;
}

const std::map<std::string, Method>& methods() {
  static const std::map<std::string, Method> table = {
      {"strip", [](const std::string& t, const Arguments& a) { return strip_method(t, a, true, true); }},
      {"lstrip", [](const std::string& t, const Arguments& a) { return strip_method(t, a, true, false); }},
      {"rstrip", [](const std::string& t, const Arguments& a) { return strip_method(t, a, false, true); }},
      {"upper", [](const std::string& t, const Arguments&) { return Value(upper(t)); }},
      {"lower", [](const std::string& t, const Arguments&) { return Value(lower(t)); }},
      {"title", [](const std::string& t, const Arguments&) { return Value(title(t)); }},
      {"capitalize", [](const std::string& t, const Arguments&) { return Value(capitalize(t)); }},
      {"startswith",
       [](const std::string& t, const Arguments& a) { return Value(has_affix(t, a.get(0, "prefix"), true)); }},
      {"endswith",
       [](const std::string& t, const Arguments& a) { return Value(has_affix(t, a.get(0, "suffix"), false)); }},
      {"find",
       [](const std::string& t, const Arguments& a) {
         const size_t found = t.find(a.get(0, "sub").string("find"));
         return Value(found == std::string::npos ? int64_t{-1}
                                                 : static_cast<int64_t>(characters(t.substr(0, found)).size()));
       }},
      {"join",
       [](const std::string& t, const Arguments& a) {
         return apply_filter("join", a.get(0, "items"), {{t}, {}});
       }},
      {"split", split},
      {"splitlines", split_lines},
      {"replace", replace},
  };
  return table;
}

}  // namespace

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), to_upper);
  return text;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), to_lower);
  return text;
}

std::string title(const std::string& text) {
  std::string out = lower(text);
  for (size_t i = 0; i < out.size(); ++i) {
    if (i == 0 || !is_letter(out[i - 1])) out[i] = to_upper(out[i]);
  }
  return out;
}

std::string capitalize(const std::string& text) {
  std::string out = lower(text);
  if (!out.empty()) out[0] = to_upper(out[0]);
  return out;
}

std::string strip(const std::string& text, const std::string* set, bool left, bool right) {
  const std::string spaces = " \t\n\r\f\v";
  const std::string& characters_to_drop = set == nullptr ? spaces : *set;
  const size_t begin = left ? text.find_first_not_of(characters_to_drop) : 0;
  if (begin == std::string::npos) return "";
  const size_t last = right ? text.find_last_not_of(characters_to_drop) : text.size();
  if (last == std::string::npos) return "";
  return text.substr(begin, right ? last - begin + 1 : std::string::npos);
}

bool is_text_method(const std::string& name) { return methods().contains(name); }

Value call_text_method(const std::string& name, const std::string& text, const Arguments& arguments) {
  return methods().at(name)(text, arguments);
}

}  // namespace ondol::jinja
