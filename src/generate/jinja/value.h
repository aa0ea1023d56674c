// Values of template expressions, with the semantics of Python where they show.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace ondol::jinja {

/// Why a template cannot be read or rendered; the place is added by whoever knows it.
struct Failure {
  std::string what;
};

/// Bounds of what one template can make. Depth and size (elements, those of elements included) are bounded when a value
/// is made, so that no walk over one runs out of stack or time; values shared between lists count each time.
inline constexpr size_t kMaxText = size_t{64} << 20;
inline constexpr int kMaxValueDepth = 100;
inline constexpr int64_t kMaxValueSize = 1'000'000;

class Value;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<std::string, Value>>;  // in order of insertion
struct Arguments;
using Function = std::function<Value(const Arguments&)>;

class Value {
 public:
  struct Undefined {
    std::string name;  // of what is missing, for messages
  };
  struct None {};

  Value() : data_(Undefined{}) {}
  static Value undefined(std::string name) { return Value(Data(Undefined{std::move(name)})); }
  static Value none() { return Value(Data(None{})); }
  Value(bool value) : data_(value) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(std::string text) : data_(std::move(text)) {}
  Value(const char* text) : data_(std::string(text)) {}
  // Failure when the value becomes too deep or too large, or would hold a namespace.
  Value(List items);
  Value(Dict items);
  /// What `set name.attribute` can change; it cannot become part of another value, so that none contains itself.
  static Value make_namespace(Dict items);
  Value(Function function) : data_(std::make_shared<Function>(std::move(function))) {}

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_boolean() const { return std::holds_alternative<bool>(data_); }
  bool is_integer() const { return std::holds_alternative<int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_boolean() || is_integer() || is_float(); }
  bool is_string() const { return std::holds_alternative<std::string>(data_); }
  bool is_list() const { return std::holds_alternative<std::shared_ptr<ListData>>(data_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<DictData>>(data_); }
  bool is_namespace() const { return is_dict() && std::get<std::shared_ptr<DictData>>(data_)->is_namespace; }
  bool is_function() const { return std::holds_alternative<std::shared_ptr<Function>>(data_); }

  // Each throws Failure when the value is of another kind; `use` says what for.
  int64_t integer(const char* use) const;
  double number(const char* use) const;
  const std::string& string(const char* use) const;
  const List& list(const char* use) const;
  const Dict& dict(const char* use) const;
  const Function& function() const;

  bool truth() const;
  /// What `{{ value }}` prints: str() of Python, nothing for undefined.
  std::string text() const;
  /// repr() of Python.
  std::string repr() const;
  /// "a string", "none", … for messages.
  std::string kind() const;
  /// The elements that a loop sees: items, keys, characters; none of undefined.
  List elements(const char* use) const;
  /// The value under a key, or nullptr. Only for dicts.
  const Value* find(const std::string& key) const;
  /// Only for namespaces; functions cannot be kept in one.
  void set(const std::string& key, Value value) const;
  /// Elements of a list or mapping, those of elements included, and 1 for the value itself.
  int64_t size() const { return extent().size; }

 private:
  struct Extent {
    int depth = 0;
    int64_t size = 1;
    void include(const Value& element);
  };
  struct ListData {
    List items;
    Extent extent;
  };
  struct DictData {
    Dict items;
    Extent extent;
    bool is_namespace = false;
  };
  Extent extent() const;
  using Data = std::variant<Undefined, None, bool, int64_t, double, std::string, std::shared_ptr<ListData>,
                            std::shared_ptr<DictData>, std::shared_ptr<Function>>;
  explicit Value(Data data) : data_(std::move(data)) {}
  [[noreturn]] void wrong_kind(const char* wanted, const char* use) const;
  void append_repr(std::string& out) const;

  Data data_;
};

struct Arguments {
  List positional;
  Dict named;

  /// The argument at `position` or called `name`, or undefined.
  Value get(size_t position, const char* name) const;
};

bool equal(const Value& a, const Value& b);
/// Numbers or strings; Failure otherwise.
bool less(const Value& a, const Value& b);
bool contains(const Value& container, const Value& item);

/// json.dumps(value, ensure_ascii=False); indent < 0: one line with ", " and ": ".
std::string to_json(const Value& value, int indent);

/// Whole characters of UTF-8 text.
std::vector<std::string> characters(const std::string& text);

}  // namespace ondol::jinja
