#include "data/clean/document_writer.h"

#include <zlib.h>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>

#include "data/clean/json_row.h"
#include "data/clean/text_scan.h"

namespace ondol::clean {

namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;
constexpr size_t kPendingBlocks = 16;

bool names_rows(std::string name) {
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  if (name.ends_with(".jsonl")) return true;
  if (name.ends_with(".txt")) return false;
  throw UsageError("unknown kind of text file: the name ends in neither .txt nor .jsonl (" + name + ")",
                   "both may be followed by .gz");
}

std::string gzip_member(std::string_view text) {
  z_stream stream{};
  constexpr int kWindowBits = 15, kGzip = 16, kMemoryLevel = 8;
  ONDOL_CHECK(::deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kWindowBits + kGzip, kMemoryLevel,
                             Z_DEFAULT_STRATEGY) == Z_OK,
              "cannot compress: zlib does not start");
  std::string out(::deflateBound(&stream, static_cast<uLong>(text.size())), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int status = ::deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  ONDOL_CHECK(status == Z_STREAM_END, "cannot compress: zlib status ", status);
  return out;
}

bool has_empty_line(std::string_view text) {
  while (true) {
    const size_t end = text.find('\n');
    if (trimmed(text.substr(0, end)).empty()) return true;
    if (end == std::string_view::npos) return false;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

TextFileWriter::TextFileWriter(const std::string& path) : file_(path), compressed_(path.ends_with(".gz")) {}

void TextFileWriter::write(std::string_view text) {
  if (!compressed_) return file_.write(text);
  pending_ += text;
  if (pending_.size() >= kPendingBlocks * kBlockBytes) compress_blocks(false);
}

void TextFileWriter::compress_blocks(bool all) {
  const size_t blocks = all ? (pending_.size() + kBlockBytes - 1) / kBlockBytes : pending_.size() / kBlockBytes;
  std::vector<std::string> members(blocks);
  parallel_for(static_cast<int64_t>(blocks), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      members[i] = gzip_member(std::string_view(pending_).substr(i * kBlockBytes, kBlockBytes));
    }
  });
  for (const std::string& member : members) file_.write(member);
  pending_.erase(0, std::min(pending_.size(), blocks * kBlockBytes));
}

void TextFileWriter::commit() {
  if (compressed_) {
    compress_blocks(true);
    if (file_.size() == 0) file_.write(gzip_member(""));
  }
  file_.commit();
}

DocumentWriter::DocumentWriter(const CleanConfig& config)
    : config_(config), rows_(names_rows(config.output)), writer_(config.output) {}

void DocumentWriter::write_text(const std::string& text, const std::string& place) {
  const std::string& separator = config_.separator;
  const auto refuse = [&](const char* why) {
    throw UsageError(concat("cannot write document to a text file: ", why, " (", place, ")"),
                     "write .jsonl instead (" + config_.output + ")");
  };
  if (separator == "file") {
    if (any_) refuse("separator \"file\" makes the whole file one document, and there is another");
    writer_.write(text);
  } else if (separator == "line") {
    if (text.find('\n') != std::string::npos) refuse("it has several lines, and separator is \"line\"");
    writer_.write(text + "\n");
  } else if (separator == "blank_line") {
    if (has_empty_line(text)) refuse("it has an empty line, and separator is \"blank_line\"");
    writer_.write((any_ ? "\n" : "") + text + "\n");
  } else {
    if (text.find(separator) != std::string::npos) refuse("it holds the separator");
    writer_.write((any_ ? separator + "\n" : "") + text + "\n");
  }
}

void DocumentWriter::write(const Document& document, const std::string& place) {
  if (!rows_) {
    write_text(document.text, place);
  } else if (document.row.empty()) {
    writer_.write("{" + json_string(config_.text_field) + ": " + json_string(document.text) + "}\n");
  } else {
    writer_.write(document.changed ? replace_string_field(document.row, config_.text_field, document.text)
                                   : document.row);
    writer_.write("\n");
  }
  any_ = true;
}

std::string place_of(const Document& document, const std::vector<std::string>& files) {
  return concat(files[document.file], ":", document.line);
}

}  // namespace ondol::clean
