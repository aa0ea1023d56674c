// Text, JSON lines, gzip and prepared token files.
#include <cstring>

#include <zlib.h>

#include <ondol/data/documents.h>
#include <ondol/data/token_file.h>

#include "data/token_file_format.h"
#include "fuzz/targets.h"

namespace ondol::fuzz {

namespace {

using detail::IndexFooter;
using detail::IndexHeader;

std::string compressed(std::string_view text) {
  std::string out(::compressBound(text.size()) + 64, '\0');
  z_stream stream{};
  ::deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  ::deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

bool is_gzip(std::string_view text) { return text.starts_with("\x1f\x8b"); }

/// All documents, pieces joined; `whole` in one piece.
std::vector<std::string> read_documents(const std::string& path, const DocumentOptions& options) {
  std::vector<std::string> documents;
  DocumentReader reader(path, options);
  for (DocumentPiece piece; reader.next(piece);) {
    promise(!piece.text.empty(), "an empty piece");
    promise(piece.first || !documents.empty(), "a piece without its document");
    if (piece.first) documents.emplace_back();
    documents.back() += piece.text;
  }
  return documents;
}

std::string index_of(std::vector<uint64_t> offsets, uint64_t tokens, uint32_t width, uint64_t vocab_size) {
  IndexHeader header{};
  std::memcpy(header.magic, detail::kIndexMagic, sizeof header.magic);
  header.version = detail::kIndexVersion;
  header.bytes_per_token = width;
  IndexFooter footer{};
  footer.documents = offsets.size();
  footer.tokens = tokens;
  footer.vocab_size = vocab_size;
  footer.eos_id = -1;
  std::string index(reinterpret_cast<const char*>(&header), sizeof header);
  index.append(reinterpret_cast<const char*>(offsets.data()), offsets.size() * 8);
  index.append(reinterpret_cast<const char*>(&footer), sizeof footer);
  return index;
}

}  // namespace

/// The first byte picks the options, the rest is the file.
void run_documents(std::string_view input) {
  if (input.empty()) return;
  static constexpr const char* kSeparators[] = {"file", "line", "blank_line", "<|sep|>"};
  const auto flags = static_cast<unsigned char>(input[0]);
  const std::string_view text = input.substr(1);
  const char* name = (flags & 1) != 0 ? "input.jsonl" : "input.txt";
  const DocumentOptions options{.separator = kSeparators[flags >> 1 & 3], .text_field = "text", .piece_bytes = 16};
  const std::string path = scratch_file(name, text);
  std::vector<std::string> documents;
  if (!accepts([&] { documents = read_documents(path, options); })) return;
  DocumentOptions whole = options;
  whole.piece_bytes = size_t{1} << 30;
  promise(read_documents(path, whole) == documents, "pieces are not the whole");
  if (is_gzip(text)) return;
  const std::string packed = scratch_file(std::string(name) + ".gz", compressed(text));
  promise(read_documents(packed, options) == documents, "the compressed file has other documents");
}

std::vector<std::string> documents_seeds() {
  using namespace std::string_literals;
  const std::string lines =
      "{\"text\":\"one\"}\n{\"id\":7,\"text\":\"two \\u00e9\",\"more\":{\"text\":[1]}}\r\n\n{\"text\":\"\"}\n";
  const std::string prose =
      "\xef\xbb\xbf"
      "A first line\nand a second one\n\n\nA paragraph <|sep|>\r\n\r\n and  more\n \nend";
  return {"1"s + lines,
          "0"s + prose,
          "2"s + prose,
          "4"s + prose,
          "6"s + prose,
          "1"s + compressed(lines),
          "0"s + compressed(prose),
          "0"s + compressed(prose).substr(0, 40),
          "1[1]\n",
          "1{\"text\":3}\n"};
}

/// u8 flags, u8 length of the .bin file, the .bin file, the .idx file. With flag 1 the index gets the checksums and the
/// file size that it needs, so that the checks behind those are reached.
void run_token_file(std::string_view input) {
  if (input.size() < 2) return;
  const bool repair = (input[0] & 1) != 0;
  const size_t bin_bytes = std::min<size_t>(static_cast<unsigned char>(input[1]), input.size() - 2);
  const std::string_view bin = input.substr(2, bin_bytes);
  std::string idx(input.substr(2 + bin_bytes));
  if (repair && idx.size() >= sizeof(IndexFooter)) {
    IndexFooter footer;
    char* at = idx.data() + idx.size() - sizeof footer;
    std::memcpy(&footer, at, sizeof footer);
    footer.bin_bytes = bin.size();
    footer.bin_crc = crc32(0, bin.data(), bin.size());
    std::memcpy(at, &footer, sizeof footer);
    footer.idx_crc = crc32(0, idx.data(), idx.size() - sizeof footer.idx_crc);
    std::memcpy(at, &footer, sizeof footer);
  }
  scratch_file("tokens.bin", bin);
  const std::string path = scratch_file("tokens.idx", idx);
  accepts([&] {
    const TokenFile file(path);
    promise(file.tokens() * file.bytes_per_token() == static_cast<int64_t>(bin.size()), "tokens outside the file");
    accepts([&] { file.verify(); });
    for (int64_t d = 0; d < file.documents(); ++d) {
      const int64_t begin = file.document_begin(d), end = file.document_begin(d + 1);
      promise(begin <= end && end <= file.tokens(), "a document outside the tokens");
      if (begin < end) promise(file.document_at(begin) == d, "a token is not in its document");
    }
    promise(file.eos_id() >= -1 && file.eos_id() < file.vocab_size(), "the end-of-document id is no token");
    std::vector<int32_t> ids(static_cast<size_t>(file.tokens()));
    file.read(0, file.tokens(), ids.data());
    for (const int32_t id : ids) promise(id >= 0 && id < file.vocab_size(), "an id outside the vocabulary");
  });
}

std::vector<std::string> token_file_seeds() {
  const auto seed = [](const std::string& bin, const std::string& idx) {
    return std::string{1, static_cast<char>(bin.size())} + bin + idx;
  };
  using namespace std::string_literals;
  return {seed("\1\0\2\0\3\0\4\0"s, index_of({0, 2}, 4, 2, 100)),
          seed("\1\0\0\0\2\0\0\0"s, index_of({0, 0, 1}, 2, 4, 70000)), seed("", index_of({}, 0, 2, 1)),
          seed("\xff\xff"s, index_of({0}, 1, 2, 65536))};
}

}  // namespace ondol::fuzz
