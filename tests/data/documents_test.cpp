#include <ondol/data/documents.h>

#include <gtest/gtest.h>
#include <zlib.h>

#include <ondol/base/error.h>

#include "support/error_of.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::TemporaryDirectory;
using Texts = std::vector<std::string>;

Texts documents_of(const std::string& path, const DocumentOptions& options = {}) {
  DocumentReader reader(path, options);
  Texts texts;
  for (DocumentPiece piece; reader.next(piece);) {
    if (piece.first) texts.emplace_back();
    texts.back() += piece.text;
  }
  return texts;
}

void write_gz(const std::string& path, const std::string& text) {
  const gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
}

TEST(DocumentReader, SeparatesText) {
  TemporaryDirectory directory;
  const std::string path = directory.write("a.txt",
                                           "\xef\xbb\xbf"
                                           "one\ntwo\n\n \t\nthree\r\nfour\n\n<|end|>\nfive<|end|><|end|>");
  EXPECT_EQ(documents_of(path), (Texts{"one\ntwo\n\n \t\nthree\r\nfour\n\n<|end|>\nfive<|end|><|end|>"}));
  EXPECT_EQ(documents_of(path, {.separator = "line"}),
            (Texts{"one", "two", " \t", "three", "four", "<|end|>", "five<|end|><|end|>"}));
  EXPECT_EQ(documents_of(path, {.separator = "blank_line"}),
            (Texts{"one\ntwo", "three\nfour", "<|end|>\nfive<|end|><|end|>"}));
  EXPECT_EQ(documents_of(path, {.separator = "<|end|>"}), (Texts{"one\ntwo\n\n \t\nthree\r\nfour", "five"}));
  EXPECT_EQ(documents_of(directory.write("empty.txt", "")), Texts{});
  EXPECT_EQ(documents_of(directory.write("blank.txt", "\n\n \n"), {.separator = "blank_line"}), Texts{});
  EXPECT_THROW(documents_of(path, {.separator = ""}), UsageError);
  EXPECT_THROW(documents_of(directory.write("a.csv", "")), UsageError);
}

TEST(DocumentReader, FindsSeparatorsAcrossReads) {
  TemporaryDirectory directory;
  std::string text;
  Texts expected;
  for (int i = 0; i < 3000; ++i) {
    expected.push_back(std::string(static_cast<size_t>(i * 37 % 4001) + 1, static_cast<char>('a' + i % 26)));
    text += expected.back() + "<|endoftext|>";
  }
  EXPECT_GT(text.size(), size_t{5} << 20);
  write_gz(directory / "a.txt.gz", text);
  EXPECT_EQ(documents_of(directory / "a.txt.gz", {.separator = "<|endoftext|>"}), expected);
}

TEST(DocumentReader, CutsLongFilesBetweenLinesOnly) {
  TemporaryDirectory directory;
  std::string text;
  for (int i = 0; i < 2000; ++i) text += concat("line ", i, i % 5 == 0 ? "\n\n" : i % 7 == 0 ? " \n" : "\n");
  const std::string path = directory.write("a.txt", text);
  DocumentReader reader(path, {.piece_bytes = 1000});
  std::string joined;
  int pieces = 0;
  for (DocumentPiece piece; reader.next(piece); ++pieces) {
    EXPECT_EQ(piece.first, pieces == 0);
    EXPECT_EQ(piece.last, joined.size() + piece.text.size() == text.size());
    if (!piece.last) {
      EXPECT_LE(piece.text.size(), 1000u);
      EXPECT_EQ(piece.text.back(), '\n');
      EXPECT_FALSE(isspace(piece.text[piece.text.size() - 2]));
      EXPECT_FALSE(isspace(text[joined.size() + piece.text.size()]));
    }
    joined += piece.text;
  }
  EXPECT_GT(pieces, 10);
  EXPECT_EQ(joined, text);
  // Without any line break there is nowhere to cut.
  EXPECT_EQ(documents_of(directory.write("b.txt", std::string(5000, 'x')), {.piece_bytes = 1000}),
            Texts{std::string(5000, 'x')});
}

TEST(DocumentReader, ReadsJsonLines) {
  TemporaryDirectory directory;
  const std::string text =
      "{\"id\": 1, \"meta\": {\"text\": 3}, \"text\": \"one\\nA\"}\n\n{\"text\": \"\"}\r\n{\"text\": \"two \\u00e9\", "
      "\"x\": [\"text\"]}\n";
  write_gz(directory / "a.jsonl.gz", text);
  EXPECT_EQ(documents_of(directory / "a.jsonl.gz"), (Texts{"one\nA", "two é"}));
  EXPECT_EQ(documents_of(directory.write("b.jsonl", "{\"body\": \"x\"}"), {.text_field = "body"}), Texts{"x"});
  for (const auto& [line, why] :
       {std::pair{"{\"a\": 1}", "no field \"text\", it has \"a\" ("}, std::pair{"{}", "no field \"text\" ("},
        std::pair{"{\"prompt\": \"p\", \"x\": {\"text\": \"t\"}}", "it has \"prompt\", \"x\" ("},
        std::pair{"{\"text\": 1}", "field \"text\" is not a string"},
        std::pair{"{\"text\": [\"x\"]}", "field \"text\" is not a string"},
        std::pair{"{\"text\": \"a\", \"text\": \"b\"}", "repeated field \"text\""},
        std::pair{"[\"text\"]", "it is not an object"}, std::pair{"{\"text\": \"a\"", "not valid JSON at byte"},
        std::pair{"{\"text\": \"\xff\"}", "not valid JSON at byte"}}) {
    const std::string path = directory.write("bad.jsonl", concat("{\"text\": \"fine\"}\n", line, "\n"));
    const std::string error = error_of([&] { documents_of(path); });
    EXPECT_NE(error.find(why), std::string::npos) << error;
    EXPECT_TRUE(error.ends_with("(" + path + ":2)")) << error;
  }
  const std::string deep = directory.write("deep.jsonl", "{\"a\":" + std::string(100000, '['));
  EXPECT_NE(error_of([&] { documents_of(deep); }).find("nested deeper than 64"), std::string::npos);
}

TEST(ExpandPath, SortsAndRefuses) {
  TemporaryDirectory directory;
  for (const char* name : {"b.txt", "a.txt", "c.jsonl", "odd[1].txt"}) directory.write(name, "x");
  EXPECT_EQ(expand_path(directory / "?.txt"), (Texts{directory / "a.txt", directory / "b.txt"}));
  EXPECT_EQ(expand_path(directory / "odd[1].txt"), Texts{directory / "odd[1].txt"});
  EXPECT_EQ(expand_path(directory / "c.jsonl"), Texts{directory / "c.jsonl"});
  EXPECT_EQ(error_of([&] { expand_path(directory / "*.gz"); }), "no data file matches (" + directory / "*.gz" + ")");
  EXPECT_EQ(error_of([&] { expand_path(directory / "none"); }), "no such data file (" + directory / "none" + ")");
}

TEST(FileFingerprint, FollowsContentAlone) {
  TemporaryDirectory directory;
  std::string text(10 << 20, 'x');
  const uint64_t before = file_fingerprint(directory.write("a", text));
  EXPECT_EQ(file_fingerprint(directory.write("b", text)), before);
  for (const size_t place : {size_t{0}, size_t{5'000'000}, text.size() - 1}) {
    std::string changed = text;
    changed[place] = 'y';
    EXPECT_NE(file_fingerprint(directory.write("c", changed)), before) << place;
  }
  EXPECT_NE(file_fingerprint(directory.write("d", text + "x")), before);
  EXPECT_NE(file_fingerprint(directory.write("e", "")), file_fingerprint(directory.write("f", std::string(1, '\0'))));
}

}  // namespace
}  // namespace ondol
