#include <ondol/data/documents.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include <glob.h>

#include <ondol/base/error.h>
#include <ondol/base/file.h>
#include <ondol/base/parallel.h>

#include "base/fnv1a.h"
#include "base/json_reader.h"

namespace ondol {

namespace {

constexpr size_t kReadBytes = size_t{1} << 20;

bool is_json_lines(std::string name) {
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  if (name.ends_with(".jsonl")) return true;
  if (name.ends_with(".txt")) return false;
  throw UsageError("unknown kind of text file: the name ends in neither .txt nor .jsonl (" + name + ")",
                   "both may be followed by .gz");
}

// Keeps one string field of a flat look at an object: no document is built for what is not needed.
class FieldFinder {
 public:
  FieldFinder(const std::string& field, std::string& text) : field_(field), text_(text) {}
  bool found() const { return found_; }
  bool is_object() const { return is_object_; }
  const std::string& message() const { return message_; }
  /// The fields there are, the first few of them, for a message.
  const std::vector<std::string>& fields() const { return fields_; }

  bool string(std::string& value) {
    if (wanted()) {
      text_ = std::move(value);
      found_ = true;
    }
    return true;
  }
  bool key(std::string& name) {
    here_ = depth_ == 1 && name == field_;
    if (here_ && found_) return refuse("repeated field " + quoted_name(field_));
    if (depth_ == 1 && fields_.size() < kMaxFields) fields_.push_back(name);
    return true;
  }
  bool start_object(size_t) {
    if (depth_ == 0) is_object_ = true;
    return open();
  }
  bool start_array(size_t) { return open(); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool null() { return other(); }
  bool boolean(bool) { return other(); }
  bool number_integer(int64_t) { return other(); }
  bool number_unsigned(uint64_t) { return other(); }
  bool number_float(double, const std::string&) { return other(); }
  bool binary(Json::binary_t&) { return false; }
  bool parse_error(size_t position, const std::string&, const Json::exception&) {
    return refuse(concat("not valid JSON at byte ", position));
  }

 private:
  bool wanted() const { return here_ && depth_ == 1; }
  bool open() {
    if (!other()) return false;
    return ++depth_ <= 64 || refuse("nested deeper than 64");
  }
  bool close() {
    --depth_;
    return true;
  }
  bool other() { return !wanted() || refuse("field " + quoted_name(field_) + " is not a string"); }
  bool refuse(const std::string& why) {
    message_ = why;
    return false;
  }

  static constexpr size_t kMaxFields = 8;

  const std::string& field_;
  std::string& text_;
  std::vector<std::string> fields_;
  int depth_ = 0;
  bool here_ = false;
  bool found_ = false;
  bool is_object_ = false;
  std::string message_;
};

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Just after a line break that stands between two characters that are not white space, as far back as possible; 0:
// none.
size_t last_cut(const std::string& text, size_t limit) {
  for (size_t i = std::min(limit, text.size() - 1); i >= 2; --i) {
    if (text[i - 1] == '\n' && !is_space(text[i]) && !is_space(text[i - 2])) return i;
  }
  return 0;
}

}  // namespace

DocumentReader::DocumentReader(const std::string& path, const DocumentOptions& options)
    : reader_(path), options_(options), json_(is_json_lines(path)) {
  if (options_.separator.empty()) {
    throw UsageError("empty document separator", "use \"file\", \"line\", \"blank_line\" or the separating text");
  }
}

void DocumentReader::drop_byte_order_mark(std::string& text) const {
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
}

bool DocumentReader::next(DocumentPiece& piece) {
  piece = {};
  if (json_) return next_of_json(piece);
  if (options_.separator == "file") return next_of_file(piece);
  if (options_.separator == "line") return next_of_lines(piece);
  if (options_.separator == "blank_line") return next_of_paragraphs(piece);
  return next_of_separated(piece);
}

// Reads until `bytes` are pending or the file ends; false when nothing is pending.
bool DocumentReader::fill(size_t bytes) {
  while (!finished_ && pending_.size() < bytes) {
    const size_t before = pending_.size();
    const size_t wanted = std::min(kReadBytes, bytes - before);
    pending_.resize(before + wanted);
    const size_t count = reader_.read(pending_.data() + before, wanted);
    pending_.resize(before + count);
    finished_ = count < wanted;
  }
  return !pending_.empty();
}

bool DocumentReader::next_of_file(DocumentPiece& piece) {
  if (!started_) {
    fill(3);
    drop_byte_order_mark(pending_);
  }
  size_t limit = options_.piece_bytes;
  size_t cut = 0;
  // One byte more than a piece is read, so that "the file goes on" is known. A piece without a place to cut grows.
  while (fill(limit + 1) && pending_.size() > limit) {
    cut = last_cut(pending_, limit);
    if (cut > 0) break;
    limit += options_.piece_bytes;
  }
  if (pending_.empty()) return false;
  piece.first = !started_;
  started_ = true;
  line_number_ = 1;
  piece.last = cut == 0;
  if (cut == 0) cut = pending_.size();
  piece.text = pending_.substr(0, cut);
  pending_.erase(0, cut);
  return true;
}

bool DocumentReader::next_of_lines(DocumentPiece& piece) {
  while (reader_.read_line(piece.text)) {
    if (reader_.line_number() == 1) drop_byte_order_mark(piece.text);
    line_number_ = reader_.line_number();
    if (!piece.text.empty()) return true;
  }
  return false;
}

bool DocumentReader::next_of_paragraphs(DocumentPiece& piece) {
  std::string line;
  while (reader_.read_line(line)) {
    if (reader_.line_number() == 1) drop_byte_order_mark(line);
    if (std::all_of(line.begin(), line.end(), is_space)) {
      if (!piece.text.empty()) return true;
      continue;
    }
    if (piece.text.empty()) {
      line_number_ = reader_.line_number();
    } else {
      piece.text += '\n';
    }
    piece.text += line;
  }
  return !piece.text.empty();
}

bool DocumentReader::next_of_separated(DocumentPiece& piece) {
  const std::string& separator = options_.separator;
  if (!started_) {
    fill(3);
    drop_byte_order_mark(pending_);
    started_ = true;
  }
  while (fill(1)) {
    size_t end = pending_.find(separator, searched_);
    while (end == std::string::npos && !finished_) {
      searched_ = pending_.size() - std::min(pending_.size(), separator.size() - 1);
      fill(pending_.size() + kReadBytes);
      end = pending_.find(separator, searched_);
    }
    searched_ = 0;
    std::string& text = piece.text;
    text = pending_.substr(0, end);
    pending_.erase(0, end == std::string::npos ? pending_.size() : end + separator.size());
    const auto is_break = [](char c) { return c == '\n' || c == '\r'; };
    const auto begin = std::find_if_not(text.begin(), text.end(), is_break);
    line_number_ = lines_passed_ + std::count(text.begin(), begin, '\n') + 1;
    lines_passed_ += std::count(text.begin(), text.end(), '\n') + std::count(separator.begin(), separator.end(), '\n');
    text.erase(text.begin(), begin);
    while (!text.empty() && is_break(text.back())) text.pop_back();
    if (!text.empty()) return true;
  }
  return false;
}

bool DocumentReader::next_of_json(DocumentPiece& piece) {
  std::string& line = row_;
  while (reader_.read_line(line)) {
    if (reader_.line_number() == 1) drop_byte_order_mark(line);
    if (std::all_of(line.begin(), line.end(), is_space)) continue;
    line_number_ = reader_.line_number();
    FieldFinder finder(options_.text_field, piece.text);
    const auto fail = [&](const std::string& why, const std::string& hint = "") {
      throw Error(concat("cannot read JSON line: ", why, " (", reader_.path(), ":", reader_.line_number(), ")"), hint);
    };
    if (!Json::sax_parse(line.begin(), line.end(), &finder)) fail(finder.message());
    if (!finder.is_object()) fail("it is not an object");
    if (!finder.found()) {
      std::string others;
      for (const std::string& field : finder.fields()) others += (others.empty() ? "" : ", ") + quoted_name(field);
      fail(concat("no field ", quoted_name(options_.text_field)) + (others.empty() ? "" : ", it has " + others),
           "data.text_field (--text-field) names the field that holds the text");
    }
    if (!piece.text.empty()) return true;
  }
  return false;
}

std::vector<std::string> expand_path(const std::string& path) {
  std::error_code error;
  if (path.find_first_of("*?[") == std::string::npos || std::filesystem::exists(path, error)) {
    if (!std::filesystem::exists(path, error)) throw UsageError("no such data file (" + path + ")");
    return {path};
  }
  glob_t found{};
  const int status = ::glob(path.c_str(), 0, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  if (status != 0 || paths.empty()) throw UsageError("no data file matches (" + path + ")");
  std::sort(paths.begin(), paths.end());
  return paths;
}

uint64_t mix_fingerprint(uint64_t fingerprint, uint64_t value) {
  Fnv1a<uint64_t> hash = fingerprint == 0 ? Fnv1a<uint64_t>() : Fnv1a<uint64_t>(fingerprint);
  for (int i = 0; i < 8; ++i) hash.add_unit(value >> (8 * i) & 0xff);
  return hash.value();
}

uint64_t mix_fingerprint(uint64_t fingerprint, const std::string& text) {
  return mix_fingerprint(mix_fingerprint(fingerprint, text.size()), crc32(0, text.data(), text.size()));
}

uint64_t file_fingerprint(const std::string& path) {
  constexpr size_t kBlock = size_t{4} << 20;
  constexpr size_t kWhole = size_t{1} << 30;
  constexpr size_t kSampled = kWhole / kBlock;
  const MappedFile file(path);
  const size_t blocks = (file.size() + kBlock - 1) / kBlock;
  const size_t count = file.size() <= kWhole ? blocks : kSampled;
  std::vector<uint32_t> sums(count);
  parallel_for(static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      // Evenly spaced from the first block to the last one.
      const size_t block =
          count == blocks ? static_cast<size_t>(i) : static_cast<size_t>(i) * (blocks - 1) / (count - 1);
      const size_t offset = block * kBlock;
      sums[i] = crc32(0, file.data() + offset, std::min(kBlock, file.size() - offset));
    }
  });
  uint64_t fingerprint = mix_fingerprint(0, file.size());
  for (const uint32_t sum : sums) fingerprint = mix_fingerprint(fingerprint, sum);
  return fingerprint;
}

}  // namespace ondol
