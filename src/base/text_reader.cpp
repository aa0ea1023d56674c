#include <ondol/base/text_reader.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <sys/stat.h>
#include <zlib.h>

#include <ondol/base/error.h>

namespace ondol {

namespace {
constexpr size_t kBufferBytes = size_t{1} << 18;
}

TextReader::TextReader(const std::string& path) : path_(path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) throw_error("cannot open file: ", std::strerror(errno), " (", path, ")");
  ONDOL_CHECK(!S_ISDIR(info.st_mode), "cannot read file: it is a directory (", path, ")");
  buffer_.resize(kBufferBytes);
  const gzFile stream = ::gzopen(path.c_str(), "rbe");
  if (stream == nullptr) throw_error("cannot open file: ", std::strerror(errno), " (", path, ")");
  ::gzbuffer(stream, kBufferBytes);
  stream_ = stream;
}

TextReader::~TextReader() { ::gzclose(static_cast<gzFile>(stream_)); }

bool TextReader::refill() {
  const gzFile stream = static_cast<gzFile>(stream_);
  errno = 0;
  const int count = ::gzread(stream, buffer_.data(), static_cast<unsigned>(buffer_.size()));
  int status = Z_OK;
  ::gzerror(stream, &status);
  if (count < 0 || (status != Z_OK && status != Z_STREAM_END)) {
    const char* reason = status == Z_ERRNO       ? std::strerror(errno)
                         : status == Z_BUF_ERROR ? "the gzip stream ends too early"
                                                 : "the gzip stream is damaged";
    throw_error("cannot read file: ", reason, " (", path_, ")");
  }
  begin_ = 0;
  end_ = static_cast<size_t>(count);
  return count > 0;
}

size_t TextReader::read(char* data, size_t size) {
  size_t filled = 0;
  while (filled < size && (begin_ < end_ || refill())) {
    const size_t part = std::min(size - filled, end_ - begin_);
    std::memcpy(data + filled, buffer_.data() + begin_, part);
    begin_ += part;
    filled += part;
  }
  return filled;
}

bool TextReader::read_line(std::string& line, size_t max_bytes) {
  line.clear();
  bool any = false;
  while (begin_ < end_ || refill()) {
    any = true;
    const char* start = buffer_.data() + begin_;
    const void* newline = std::memchr(start, '\n', end_ - begin_);
    const size_t part = newline ? static_cast<const char*>(newline) - start : end_ - begin_;
    ONDOL_CHECK(part <= max_bytes - line.size(), "cannot read line: longer than ", max_bytes, " bytes (", path_, ":",
                line_number_ + 1, ")");
    line.append(start, part);
    begin_ += part + (newline != nullptr);
    if (newline != nullptr) break;
  }
  if (!any) return false;
  ++line_number_;
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return true;
}

}  // namespace ondol
