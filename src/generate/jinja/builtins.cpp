#include "generate/jinja/builtins.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ctime>
#include <map>

#include "generate/jinja/text_functions.h"

namespace ondol::jinja {

namespace {

using FilterFunction = Value (*)(const Value& input, const Arguments& arguments);
using TestFunction = bool (*)(const Value& input, const Arguments& arguments);

Value attribute_of(const Value& item, const std::string& path) {
  Value value = item;
  size_t begin = 0;
  while (begin <= path.size()) {
    const size_t end = std::min(path.find('.', begin), path.size());
    value = subscript(value, path.substr(begin, end - begin));
    begin = end + 1;
  }
  return value;
}

Value length(const Value& input, const Arguments&) {
  if (input.is_string()) return static_cast<int64_t>(characters(input.string("")).size());
  if (input.is_dict()) return static_cast<int64_t>(input.dict("").size());
  return static_cast<int64_t>(input.elements("length").size());
}

Value join(const Value& input, const Arguments& arguments) {
  const std::string separator = arguments.get(0, "d").text();
  const Value attribute = arguments.get(1, "attribute");
  std::string out;
  bool first = true;
  for (const Value& item : input.elements("join")) {
    if (!first) out += separator;
    first = false;
    out += (attribute.is_undefined() ? item : attribute_of(item, attribute.string("join"))).text();
    if (out.size() > kMaxText) throw Failure{"the text is too long"};
  }
  return out;
}

Value default_value(const Value& input, const Arguments& arguments) {
  const bool also_false = arguments.get(1, "boolean").truth();
  if (!input.is_undefined() && (!also_false || input.truth())) return input;
  const Value replacement = arguments.get(0, "default_value");
  return replacement.is_undefined() ? Value("") : replacement;
}

Value to_integer(const Value& input, const Arguments& arguments) {
  if (input.is_float()) {
    const double value = input.number("");
    if (!(std::fabs(value) < 9.2e18)) throw Failure{"an integer is too large"};
    return static_cast<int64_t>(value);
  }
  if (input.is_number()) return input.integer("");
  int64_t value = 0;
  const std::string text = input.is_string() ? strip(input.string(""), nullptr, true, true) : "";
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size()) return value;
  const Value fallback = arguments.get(0, "default");
  return fallback.is_undefined() ? Value(int64_t{0}) : fallback;
}

Value to_float(const Value& input, const Arguments&) {
  if (input.is_number()) return input.number("");
  double value = 0.0;
  const std::string text = input.is_string() ? input.string("") : "";
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Value items(const Value& input, const Arguments&) {
  List pairs;
  if (input.is_undefined()) return pairs;
  for (const auto& [key, value] : input.dict("items")) pairs.emplace_back(List{key, value});
  return pairs;
}

Value sorted_items(const Value& input, const Arguments&) {
  Dict copy = input.dict("dictsort");
  std::stable_sort(copy.begin(), copy.end(),
                   [](const auto& a, const auto& b) { return lower(a.first) < lower(b.first); });
  List pairs;
  for (const auto& [key, value] : copy) pairs.emplace_back(List{key, value});
  return pairs;
}

Value sorted(const Value& input, const Arguments& arguments) {
  List list = input.elements("sort");
  const Value attribute = arguments.get(2, "attribute");
  const auto key = [&](const Value& item) {
    const Value value = attribute.is_undefined() ? item : attribute_of(item, attribute.string("sort"));
    return value.is_string() ? Value(lower(value.string(""))) : value;
  };
  std::stable_sort(list.begin(), list.end(), [&](const Value& a, const Value& b) { return less(key(a), key(b)); });
  if (arguments.get(0, "reverse").truth()) std::reverse(list.begin(), list.end());
  return list;
}

Value unique(const Value& input, const Arguments&) {
  List out;
  for (const Value& item : input.elements("unique")) {
    if (!contains(Value(out), item)) out.push_back(item);
  }
  return out;
}

Value reversed(const Value& input, const Arguments&) {
  List list = input.elements("reverse");
  std::reverse(list.begin(), list.end());
  if (!input.is_string()) return list;
  std::string text;
  for (const Value& item : list) text += item.text();
  return text;
}

Value map_items(const Value& input, const Arguments& arguments) {
  List out;
  const Value attribute = arguments.get(arguments.positional.size(), "attribute");
  for (const Value& item : input.elements("map")) {
    if (!attribute.is_undefined()) {
      out.push_back(attribute_of(item, attribute.string("map")));
    } else {
      const Arguments rest{{arguments.positional.begin() + !arguments.positional.empty(), arguments.positional.end()},
                           {}};
      out.push_back(apply_filter(arguments.get(0, "filter").string("map"), item, rest));
    }
  }
  return out;
}

/// select, reject (by_attribute off), selectattr, rejectattr.
Value choose(const Value& input, const Arguments& arguments, bool by_attribute, bool wanted) {
  const size_t first = by_attribute ? 1 : 0;
  List out;
  for (const Value& item : input.elements("a selection")) {
    const Value value = by_attribute ? attribute_of(item, arguments.get(0, "attribute").string("a selection")) : item;
    bool chosen = value.truth();
    if (arguments.positional.size() > first) {
      const Arguments rest{
          {arguments.positional.begin() + static_cast<ptrdiff_t>(first) + 1, arguments.positional.end()}, {}};
      chosen = apply_test(arguments.positional[first].string("a selection"), value, rest);
    }
    if (chosen == wanted) out.push_back(item);
  }
  return out;
}

Value indented(const Value& input, const Arguments& arguments) {
  const Value width = arguments.get(0, "width");
  const bool first = arguments.get(1, "first").truth(), blank = arguments.get(2, "blank").truth();
  const std::string pad =
      width.is_string()
          ? width.string("")
          : std::string(
                static_cast<size_t>(std::clamp<int64_t>(width.is_undefined() ? 4 : width.integer("indent"), 0, 1000)),
                ' ');
  std::string out;
  bool line_start = first;
  for (const char c : input.string("indent")) {
    if (line_start && (c != '\n' || blank)) out += pad;
    line_start = c == '\n';
    out += c;
    if (out.size() > kMaxText) throw Failure{"the text is too long"};
  }
  return out;
}

Value json(const Value& input, const Arguments& arguments) {
  const Value indent = arguments.get(0, "indent");
  const bool none = indent.is_undefined() || indent.is_none();
  return to_json(input, none ? -1 : static_cast<int>(std::clamp<int64_t>(indent.integer("tojson"), 0, 100)));
}

Value rounded(const Value& input, const Arguments& arguments) {
  const Value digits = arguments.get(0, "precision");
  const double scale = std::pow(10.0, digits.is_undefined() ? 0.0 : digits.number("round"));
  return std::nearbyint(input.number("round") * scale) / scale;
}

Value absolute(const Value& input, const Arguments&) {
  if (input.is_float()) return std::fabs(input.number("abs"));
  const int64_t value = input.integer("abs");
  if (value == INT64_MIN) throw Failure{"an integer is too large"};
  return std::abs(value);
}

Value end_of(const Value& input, bool last) {
  const List list = input.elements(last ? "last" : "first");
  if (list.empty()) return Value::undefined(last ? "last" : "first");
  return last ? list.back() : list.front();
}

const std::map<std::string, FilterFunction>& filters() {
  static const std::map<std::string, FilterFunction> table = {
      {"trim", [](const Value& v, const Arguments& a) { return call_text_method("strip", v.text(), a); }},
      {"upper", [](const Value& v, const Arguments&) { return Value(upper(v.text())); }},
      {"lower", [](const Value& v, const Arguments&) { return Value(lower(v.text())); }},
      {"title", [](const Value& v, const Arguments&) { return Value(title(v.text())); }},
      {"capitalize", [](const Value& v, const Arguments&) { return Value(capitalize(v.text())); }},
      {"replace", [](const Value& v, const Arguments& a) { return call_text_method("replace", v.text(), a); }},
      {"string", [](const Value& v, const Arguments&) { return Value(v.text()); }},
      {"safe", [](const Value& v, const Arguments&) { return v; }},
      {"abs", absolute},
      {"list", [](const Value& v, const Arguments&) { return Value(v.elements("list")); }},
      {"first", [](const Value& v, const Arguments&) { return end_of(v, false); }},
      {"last", [](const Value& v, const Arguments&) { return end_of(v, true); }},
      {"select", [](const Value& v, const Arguments& a) { return choose(v, a, false, true); }},
      {"reject", [](const Value& v, const Arguments& a) { return choose(v, a, false, false); }},
      {"selectattr", [](const Value& v, const Arguments& a) { return choose(v, a, true, true); }},
      {"rejectattr", [](const Value& v, const Arguments& a) { return choose(v, a, true, false); }},
      {"length", length},
      {"count", length},
      {"join", join},
      {"default", default_value},
      {"d", default_value},
      {"int", to_integer},
      {"float", to_float},
      {"items", items},
      {"dictsort", sorted_items},
      {"sort", sorted},
      {"unique", unique},
      {"reverse", reversed},
      {"map", map_items},
      {"indent", indented},
      {"tojson", json},
      {"round", rounded},
  };
  return table;
}

const std::map<std::string, TestFunction>& tests() {
  static const TestFunction equals = [](const Value& v, const Arguments& a) { return equal(v, a.get(0, "other")); };
  static const std::map<std::string, TestFunction> table = {
      {"defined", [](const Value& v, const Arguments&) { return !v.is_undefined(); }},
      {"undefined", [](const Value& v, const Arguments&) { return v.is_undefined(); }},
      {"none", [](const Value& v, const Arguments&) { return v.is_none(); }},
      {"boolean", [](const Value& v, const Arguments&) { return v.is_boolean(); }},
      {"true", [](const Value& v, const Arguments&) { return v.is_boolean() && v.truth(); }},
      {"false", [](const Value& v, const Arguments&) { return v.is_boolean() && !v.truth(); }},
      {"integer", [](const Value& v, const Arguments&) { return v.is_integer(); }},
      {"float", [](const Value& v, const Arguments&) { return v.is_float(); }},
      {"number", [](const Value& v, const Arguments&) { return v.is_number(); }},
      {"string", [](const Value& v, const Arguments&) { return v.is_string(); }},
      {"mapping", [](const Value& v, const Arguments&) { return v.is_dict(); }},
      {"sequence", [](const Value& v, const Arguments&) { return v.is_list() || v.is_dict() || v.is_string(); }},
      {"iterable", [](const Value& v, const Arguments&) { return v.is_list() || v.is_dict() || v.is_string(); }},
      {"callable", [](const Value& v, const Arguments&) { return v.is_function(); }},
      {"odd", [](const Value& v, const Arguments&) { return v.integer("odd") % 2 != 0; }},
      {"even", [](const Value& v, const Arguments&) { return v.integer("even") % 2 == 0; }},
      {"divisibleby",
       [](const Value& v, const Arguments& a) {
         const int64_t divisor = a.get(0, "num").integer("divisibleby");
         if (divisor == 0) throw Failure{"division by zero"};
         return divisor == -1 || v.integer("divisibleby") % divisor == 0;
       }},
      {"in", [](const Value& v, const Arguments& a) { return contains(a.get(0, "seq"), v); }},
      {"lower", [](const Value& v, const Arguments&) { return v.text() == lower(v.text()); }},
      {"upper", [](const Value& v, const Arguments&) { return v.text() == upper(v.text()); }},
      {"equalto", equals},
      {"eq", equals},
      {"==", equals},
      {"ne", [](const Value& v, const Arguments& a) { return !equal(v, a.get(0, "other")); }},
      {"lt", [](const Value& v, const Arguments& a) { return less(v, a.get(0, "other")); }},
      {"gt", [](const Value& v, const Arguments& a) { return less(a.get(0, "other"), v); }},
      {"le", [](const Value& v, const Arguments& a) { return !less(a.get(0, "other"), v); }},
      {"ge", [](const Value& v, const Arguments& a) { return !less(v, a.get(0, "other")); }},
  };
  return table;
}

Value make_range(const Arguments& a) {
  const int64_t first = a.get(0, "start").integer("range");
  const bool one = a.positional.size() == 1;
  const int64_t begin = one ? 0 : first, end = one ? first : a.get(1, "stop").integer("range");
  const int64_t step = a.positional.size() > 2 ? a.get(2, "step").integer("range") : 1;
  if (step == 0) throw Failure{"range with step 0"};
  List list;
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (static_cast<int64_t>(list.size()) == kMaxRange) throw Failure{"a range of more than 100000 numbers"};
    list.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return list;
}

Value format_time(const Arguments& a) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[256] = {};
  const size_t length = std::strftime(text, sizeof text, a.get(0, "format").string("strftime_now").c_str(), &local);
  return std::string(text, length);
}

}  // namespace

Value apply_filter(const std::string& name, const Value& input, const Arguments& arguments) {
  const auto found = filters().find(name);
  if (found == filters().end()) throw Failure{"the filter \"" + name + "\" is not supported"};
  return found->second(input, arguments);
}

bool apply_test(const std::string& name, const Value& input, const Arguments& arguments) {
  const auto found = tests().find(name);
  if (found == tests().end()) throw Failure{"the test \"" + name + "\" is not supported"};
  return found->second(input, arguments);
}

Value find_method(const Value& object, const std::string& name) {
  if (object.is_string() && is_text_method(name)) {
    return Function([name, text = object.string("")](const Arguments& a) { return call_text_method(name, text, a); });
  }
  // Attributes of a namespace are its own: a method would hold it, and could be kept in it.
  if (!object.is_dict() || object.is_namespace()) return {};
  if (name == "items") return Function([object](const Arguments& a) { return items(object, a); });
  if (name == "keys") return Function([object](const Arguments&) { return Value(object.elements("keys")); });
  if (name == "values") {
    return Function([object](const Arguments&) {
      List list;
      for (const auto& [key, value] : object.dict("values")) list.push_back(value);
      return Value(std::move(list));
    });
  }
  if (name == "get") {
    return Function([object](const Arguments& a) {
      const Value key = a.get(0, "key");
      const Value* found = key.is_string() ? object.find(key.string("")) : nullptr;
      if (found != nullptr) return *found;
      const Value fallback = a.get(1, "default");
      return fallback.is_undefined() ? Value::none() : fallback;
    });
  }
  return {};
}

Value subscript(const Value& object, const Value& key) {
  if (object.is_dict()) {
    const Value* found = key.is_string() ? object.find(key.string("")) : nullptr;
    return found != nullptr ? *found : Value::undefined(key.text());
  }
  if ((object.is_list() || object.is_string()) && (key.is_integer() || key.is_boolean())) {
    const List list = object.is_list() ? List() : object.elements("");
    const List& elements = object.is_list() ? object.list("") : list;
    const int64_t size = static_cast<int64_t>(elements.size());
    const int64_t index = key.integer("") < 0 ? key.integer("") + size : key.integer("");
    if (index >= 0 && index < size) return elements[static_cast<size_t>(index)];
  }
  if (object.is_undefined()) object.elements(""), object.dict(("'" + key.text() + "'").c_str());
  return Value::undefined(key.text());
}

Value slice(const Value& object, const Value& begin, const Value& end, const Value& step_value) {
  const List elements = object.is_undefined() ? List() : object.elements("a slice");
  if (object.is_undefined() || object.is_dict()) object.list("a slice");
  const auto absent = [](const Value& v) { return v.is_undefined() || v.is_none(); };
  const int64_t size = static_cast<int64_t>(elements.size());
  const int64_t step = absent(step_value) ? 1 : step_value.integer("a slice");
  if (step == 0) throw Failure{"a slice with step 0"};
  const auto bound = [&](const Value& v, int64_t fallback) {
    if (absent(v)) return fallback;
    const int64_t i = v.integer("a slice");
    return std::clamp<int64_t>(i < 0 ? i + size : i, step > 0 ? 0 : -1, step > 0 ? size : size - 1);
  };
  const int64_t first = bound(begin, step > 0 ? 0 : size - 1), last = bound(end, step > 0 ? size : -1);
  List list;
  for (int64_t i = first; step > 0 ? i < last : i > last;) {
    list.push_back(elements[static_cast<size_t>(i)]);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  if (!object.is_string()) return list;
  std::string text;
  for (const Value& item : list) text += item.text();
  return text;
}

Dict global_functions() {
  const auto entries = [](const Arguments& a) { return a.positional.empty() ? a.named : a.positional[0].dict("dict"); };
  return {{"raise_exception", Function([](const Arguments& a) -> Value { throw Failure{a.get(0, "message").text()}; })},
          {"namespace", Function([entries](const Arguments& a) { return Value::make_namespace(entries(a)); })},
          {"dict", Function([entries](const Arguments& a) { return Value(entries(a)); })},
          {"range", Function(make_range)},
          {"strftime_now", Function(format_time)}};
}

}  // namespace ondol::jinja
