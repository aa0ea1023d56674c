#include "data/record_reader.h"

#include <algorithm>
#include <set>

#include <ondol/base/file.h>
#include <ondol/base/text_reader.h>

#include "data/delimited.h"

namespace ondol {

namespace {

constexpr JsonLimits kLineLimits{.max_depth = 64, .max_bytes = uint64_t{64} << 20};
constexpr JsonLimits kDocumentLimits{.max_depth = 64, .max_bytes = uint64_t{1} << 30};

bool is_blank(const std::string& line) { return line.find_first_not_of(" \t\r\f\v") == std::string::npos; }

void drop_byte_order_mark(std::string& text) {
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
}

class JsonLines final : public RecordReader::Form {
 public:
  explicit JsonLines(const std::string& path) : reader_(path) {}

  bool next(Json& value, int64_t& number) override {
    for (std::string line; reader_.read_line(line);) {
      if (reader_.line_number() == 1) drop_byte_order_mark(line);
      if (is_blank(line)) continue;
      number = reader_.line_number();
      const std::string place = concat(reader_.path(), ":", number);
      value = parse_json(line, place, ErrorKind::failure, kLineLimits);
      ONDOL_CHECK(value.is_object(), "cannot read JSON line: it is not an object (", place, ")");
      return true;
    }
    return false;
  }

 private:
  TextReader reader_;
};

class JsonDocument final : public RecordReader::Form {
 public:
  JsonDocument(const std::string& path, const RecordSettings& settings) {
    TextReader reader(path);
    std::string text;
    std::vector<char> buffer(size_t{1} << 20);
    while (const size_t count = reader.read(buffer.data(), buffer.size())) {
      text.append(buffer.data(), count);
      ONDOL_CHECK(text.size() <= kDocumentLimits.max_bytes, "cannot read JSON: more than 1 GiB (", path, ")");
    }
    Json document = parse_json(text, path, ErrorKind::failure, kDocumentLimits);
    if (document.is_array()) {
      elements_ = std::move(document.get_ref<Json::array_t&>());
    } else if (settings.expand) {
      elements_ = settings.expand(document, path);
    } else {
      throw_error("cannot read JSON: an array of objects is expected, not ", document.type_name(), " (", path, ")");
    }
    for (size_t i = 0; i < elements_.size(); ++i) {
      ONDOL_CHECK(elements_[i].is_object(), "cannot read JSON: element ", i + 1, " is no object (", path, ")");
    }
  }

  bool next(Json& value, int64_t& number) override {
    if (next_ == elements_.size()) return false;
    value = std::move(elements_[next_++]);
    number = static_cast<int64_t>(next_);
    return true;
  }
  bool counts_lines() const override { return false; }

 private:
  std::vector<Json> elements_;
  size_t next_ = 0;
};

class Table final : public RecordReader::Form {
 public:
  Table(const std::string& path, DelimitedReader::Format format, const std::vector<std::string>& columns)
      : path_(path), rows_(path, format), columns_(columns) {
    if (columns_.empty() && !rows_.next(columns_)) throw_error("cannot read table: it is empty (", path, ")");
    std::set<std::string> seen;
    for (const std::string& column : columns_) {
      if (!seen.insert(column).second) {
        throw Error(concat("cannot read table: two columns are called ", quoted_name(column), " (", path, ")"),
                    "data.columns names the columns of tables without a header");
      }
    }
  }

  bool next(Json& value, int64_t& number) override {
    if (!rows_.next(fields_)) return false;
    number = rows_.line_number();
    if (fields_.size() != columns_.size()) {
      throw Error(concat("cannot read table: a row of ", fields_.size(), " fields, there are ", columns_.size(),
                         " columns (", path_, ":", number, ")"));
    }
    value = Json::object();
    for (size_t i = 0; i < fields_.size(); ++i) value[columns_[i]] = std::move(fields_[i]);
    return true;
  }

 private:
  std::string path_;
  DelimitedReader rows_;
  std::vector<std::string> columns_, fields_;
};

class TaggedWords final : public RecordReader::Form {
 public:
  explicit TaggedWords(const std::string& path) : reader_(path) {}

  bool next(Json& value, int64_t& number) override {
    Json words = Json::array(), tags = Json::array();
    for (std::string line; reader_.read_line(line);) {
      if (reader_.line_number() == 1) drop_byte_order_mark(line);
      if (is_blank(line)) {
        if (!words.empty()) break;
        continue;
      }
      const std::vector<std::string> columns = split(line);
      if (line.starts_with("-DOCSTART-") || (words.empty() && is_comment(line, columns))) continue;
      ONDOL_CHECK(columns.size() >= 2, "cannot read tagged words: a line without a tag (", reader_.path(), ":",
                  reader_.line_number(), ")");
      if (words.empty()) number = reader_.line_number();
      words.push_back(columns.front());
      tags.push_back(columns.back());
    }
    if (words.empty()) return false;
    value = {{"words", std::move(words)}, {"tags", std::move(tags)}};
    return true;
  }

 private:
  static std::vector<std::string> split(const std::string& line) {
    const bool tabs = line.find('\t') != std::string::npos;
    std::vector<std::string> columns;
    for (size_t begin = 0; begin <= line.size();) {
      const size_t end = std::min(line.find_first_of(tabs ? "\t" : " ", begin), line.size());
      if (tabs || end > begin) columns.push_back(line.substr(begin, end - begin));
      begin = end + 1;
    }
    return columns;
  }

  /// "# text" and the like before a sentence; but "#" with a tag behind it is a word.
  static bool is_comment(const std::string& line, const std::vector<std::string>& columns) {
    const size_t text = line.find_first_not_of('#');
    if (text == 0) return false;
    if (text == std::string::npos) return true;
    return line[text] == ' ' && (columns.front().find(' ') != std::string::npos || columns.size() > 2);
  }

  TextReader reader_;
};

class ParallelLines final : public RecordReader::Form {
 public:
  ParallelLines(const std::string& source, const std::string& target) : source_(source), target_(target) {}

  bool next(Json& value, int64_t& number) override {
    std::string source, target;
    const bool more = source_.read_line(source), also = target_.read_line(target);
    const TextReader& shorter = more ? target_ : source_;
    ONDOL_CHECK(more == also, "cannot read parallel files: ", shorter.path(), " ends after line ",
                shorter.line_number(), ", ", (more ? source_ : target_).path(), " goes on");
    if (!more) return false;
    number = source_.line_number();
    if (number == 1) drop_byte_order_mark(source);
    if (number == 1) drop_byte_order_mark(target);
    value = {{"source", std::move(source)}, {"target", std::move(target)}};
    return true;
  }

 private:
  TextReader source_, target_;
};

std::unique_ptr<RecordReader::Form> open(const RecordFile& file, const RecordSettings& settings) {
  const std::string format = record_format(file);
  if (format == "parallel") return std::make_unique<ParallelLines>(file.path, file.target_path);
  if (format == "jsonl") return std::make_unique<JsonLines>(file.path);
  if (format == "json") return std::make_unique<JsonDocument>(file.path, settings);
  if (format == "conll") return std::make_unique<TaggedWords>(file.path);
  return std::make_unique<Table>(file.path, format == "csv" ? DelimitedReader::kCsv : DelimitedReader::kTsv,
                                 settings.columns);
}

/// Texts must be UTF-8, or they could neither be tokenized nor written as JSON.
void check_utf8(const Json& value, const std::string& place) {
  try {
    value.dump();
  } catch (const Json::type_error&) {
    throw Error(concat("cannot use example: it is not UTF-8 (", place, ")"));
  }
}

}  // namespace

std::string record_format(const RecordFile& file) {
  if (!file.target_path.empty()) return "parallel";
  if (!file.format.empty()) return file.format;
  const std::string& path = file.path;
  const std::string name = path.ends_with(".gz") ? path.substr(0, path.size() - 3) : path;
  for (const char* format : {"jsonl", "json", "csv", "tsv", "conll"}) {
    if (name.ends_with(concat(".", format))) return format;
  }
  if (name.ends_with(".bio")) return "conll";
  throw UsageError(concat("unknown kind of file for examples (", path, ")"),
                   "known are .jsonl, .json, .csv, .tsv and .conll (all also .gz), and a \"format\" beside the path; "
                   "lines of two files go with a \"target_path\"");
}

RecordReader::RecordReader(const RecordFile& file, const RecordSettings& settings)
    : file_(std::make_shared<const std::string>(file.path)),
      fields_(std::make_shared<const FieldMap>(settings.fields)),
      form_(open(file, settings)),
      checks_text_(!record_format(file).starts_with("json")) {}

RecordReader::~RecordReader() = default;

bool RecordReader::next(Record& record) {
  Json value;
  int64_t number = 0;
  if (!form_->next(value, number)) return false;
  record = Record(std::move(value), file_, number, form_->counts_lines(), fields_);
  if (checks_text_) check_utf8(record.value(), record.place());
  return true;
}

}  // namespace ondol
