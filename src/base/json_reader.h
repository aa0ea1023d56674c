// JSON configurations: strict parsing, checked access by dotted key, unknown keys refused.
//
//   const Json document = load_json("configs/x.json");
//   JsonReader root(document, "configs/x.json");
//   JsonReader train = root.child("train");
//   const int64_t steps = train.require<int64_t>("steps", at_least(1));
//   const double rate = train.get<double>("learning_rate", 1e-3, above(0.0));
//   const std::string dtype = train.get_enum("dtype", "f32", {"f32", "bf16"});
//   root.finish();          // UsageError: unknown key "train.stpes": not a configuration key (configs/x.json)
//                           // hint: did you mean "train.steps"?
//
// A reader remembers every key that was asked for; finish() on any reader of the document checks all of it. Readers of
// model files written by others (config.json) leave finish() out. JSON null counts as absent.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

namespace ondol {

using Json = nlohmann::json;

struct JsonLimits {
  int max_depth = 64;
  uint64_t max_bytes = uint64_t{4} << 20;  // a document in memory takes up to 16 times its text
};

/// Parses one JSON document. UTF-8 with or without byte order mark; duplicate keys, nesting beyond the limit, numbers
/// out of range and anything after the document are errors. Throws an Error of the given kind, `cannot parse JSON: WHY
/// at line L, column C (NAME)`.
Json parse_json(std::string_view text, const std::string& name, ErrorKind kind = ErrorKind::usage,
                const JsonLimits& limits = {});

/// parse_json of a file. A missing or unreadable file is a UsageError too when `kind` is usage.
Json load_json(const std::string& path, ErrorKind kind = ErrorKind::usage, const JsonLimits& limits = {});

/// A name from a file, quoted, escaped and cut for a one-line message.
std::string quoted_name(const std::string& name);

/// Bounds of a number, both inclusive unless marked as open.
struct JsonRange {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false;
  bool high_open = false;
};
inline JsonRange at_least(double low) { return {.low = low}; }
inline JsonRange above(double low) { return {.low = low, .low_open = true}; }
inline JsonRange between(double low, double high) { return {.low = low, .high = high}; }
/// low <= x < high, as for a dropout probability.
inline JsonRange half_open(double low, double high) { return {.low = low, .high = high, .high_open = true}; }

class JsonReader {
 public:
  /// `document` must be an object and outlive the reader.
  JsonReader(const Json& document, std::string file, ErrorKind kind = ErrorKind::usage);

  /// Present and not null.
  bool has(const std::string& key) const { return find(key) != nullptr; }

  /// T: bool, an integer type, float, double, std::string, or a std::vector of those.
  template <class T>
  T require(const std::string& key, const JsonRange& range = {}) const {
    const Json* value = find(key);
    if (value == nullptr) fail_missing(key);
    return convert<T>(*value, dotted(key), range);
  }
  template <class T>
  T get(const std::string& key, const T& fallback, const JsonRange& range = {}) const {
    const Json* value = find(key);
    return value == nullptr ? fallback : convert<T>(*value, dotted(key), range);
  }

  /// One of `allowed`; the error lists them and names the nearest.
  std::string get_enum(const std::string& key, const std::string& fallback,
                       const std::vector<std::string>& allowed) const;
  std::string require_enum(const std::string& key, const std::vector<std::string>& allowed) const;

  /// The object under `key`; absent: an empty one, whose keys still count as known.
  JsonReader child(const std::string& key) const;
  JsonReader require_child(const std::string& key) const;
  /// The objects of the array under `key`; absent: none.
  std::vector<JsonReader> children(const std::string& key) const;

  /// The value itself, null when absent; every key below it counts as known.
  const Json& raw(const std::string& key) const;
  /// Marks a key as known without reading it.
  void accept(const std::string& key) const { find(key); }

  /// Throws UsageError for the first key in the whole document that no reader has asked for.
  void finish() const;

  /// Error of this reader's kind, `key "train.steps": WHY (FILE)`.
  [[noreturn]] void fail(const std::string& key, const std::string& why, const std::string& hint = "") const;

  std::string dotted(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }
  const std::string& file() const;
  const Json& object() const { return *object_; }

 private:
  struct Document {
    std::string file;
    ErrorKind kind;
    std::set<std::string> known;                 // dotted keys asked for, present or not
    std::map<std::string, const Json*> objects;  // objects that a reader was made for
  };

  JsonReader(std::shared_ptr<Document> document, const Json& object, std::string path);
  const Json* find(const std::string& key) const;
  [[noreturn]] void fail_missing(const std::string& key) const;
  [[noreturn]] void fail_at(const std::string& path, const std::string& why, const std::string& hint = "") const;

  bool to_bool(const Json& value, const std::string& path) const;
  int64_t to_int(const Json& value, const std::string& path, int64_t low, int64_t high, const JsonRange& range) const;
  uint64_t to_unsigned(const Json& value, const std::string& path) const;
  double to_double(const Json& value, const std::string& path, const JsonRange& range) const;
  std::string to_text(const Json& value, const std::string& path) const;
  void check_array(const Json& value, const std::string& path) const;

  template <class T>
  struct is_vector : std::false_type {};
  template <class T>
  struct is_vector<std::vector<T>> : std::true_type {};

  template <class T>
  T convert(const Json& value, const std::string& path, const JsonRange& range) const {
    if constexpr (std::is_same_v<T, bool>) {
      return to_bool(value, path);
    } else if constexpr (std::is_same_v<T, uint64_t>) {
      return to_unsigned(value, path);
    } else if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(to_int(value, path, std::numeric_limits<T>::min(), std::numeric_limits<T>::max(), range));
    } else if constexpr (std::is_floating_point_v<T>) {
      return static_cast<T>(to_double(value, path, range));
    } else if constexpr (is_vector<T>::value) {
      check_array(value, path);
      T items;
      items.reserve(value.size());
      for (size_t i = 0; i < value.size(); ++i) {
        items.push_back(convert<typename T::value_type>(value[i], concat(path, "[", i, "]"), range));
      }
      return items;
    } else {
      static_assert(std::is_same_v<T, std::string>, "not a configuration type");
      return to_text(value, path);
    }
  }

  std::shared_ptr<Document> document_;
  const Json* object_;
  std::string path_;
};

}  // namespace ondol
