#include <ondol/data/token_file.h>

#include <cstring>

#include <gtest/gtest.h>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>

#include "data/byte_encoder.h"
#include "support/error_of.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

using testing::byte_encoder;
using testing::error_of;
using testing::TemporaryDirectory;

std::vector<int32_t> tokens_of(const TokenFile& file) {
  std::vector<int32_t> ids(static_cast<size_t>(file.tokens()));
  file.read(0, file.tokens(), ids.data());
  return ids;
}

TEST(PrepareTokens, WritesTheDocumentedLayout) {
  TemporaryDirectory directory;
  directory.write("a.txt", "ab\n\ncde");
  directory.write("b.jsonl", "{\"text\": \"f\"}\n");
  const PrepareStatistics statistics = prepare_tokens(byte_encoder(), {directory / "a.txt", directory / "b.jsonl"},
                                                      directory / "out/corpus", {.separator = "blank_line"});
  EXPECT_EQ(statistics.documents, 3);
  EXPECT_EQ(statistics.tokens, 9);
  EXPECT_EQ(statistics.text_bytes, 6);
  EXPECT_EQ(directory.read("out/corpus.bin"), std::string("a\0b\0\0\1c\0d\0e\0\0\1f\0\0\1", 18));
  const std::string idx = directory.read("out/corpus.idx");
  ASSERT_EQ(idx.size(), 16u + 3 * 8 + 64);
  EXPECT_EQ(idx.substr(0, 8), "ONDOLIDX");
  uint64_t numbers[11];
  std::memcpy(numbers, idx.data() + 16, sizeof numbers);
  EXPECT_EQ(std::vector<uint64_t>(numbers, numbers + 9), (std::vector<uint64_t>{0, 3, 7, 3, 9, 257, 11, 256, 18}));
  EXPECT_EQ(numbers[9], crc32(0, directory.read("out/corpus.bin").data(), 18));
  EXPECT_EQ(numbers[10], crc32(0, idx.data(), idx.size() - 8));

  const TokenFile file(directory / "out/corpus.bin");
  file.verify();
  EXPECT_EQ(tokens_of(file), (std::vector<int32_t>{'a', 'b', 256, 'c', 'd', 'e', 256, 'f', 256}));
  EXPECT_EQ(file.bytes_per_token(), 2);
  EXPECT_EQ(file.eos_id(), 256);
  EXPECT_EQ(file.document_begin(1), 3);
  EXPECT_EQ(file.document_begin(3), 9);
  const std::vector<int64_t> owners = {0, 0, 0, 1, 1, 1, 1, 2, 2};
  for (int64_t t = 0; t < 9; ++t) EXPECT_EQ(file.document_at(t), owners[t]);
}

TEST(PrepareTokens, WideVocabularyAndBeginOfDocument) {
  TemporaryDirectory directory;
  TextEncoder encoder = byte_encoder(70000);
  encoder.bos_id = 69999;
  encoder.eos_id = -1;
  prepare_tokens(encoder, {directory.write("a.txt", "x\ny")}, directory / "c", {.separator = "line"});
  const TokenFile file(directory / "c");
  EXPECT_EQ(file.bytes_per_token(), 4);
  EXPECT_EQ(file.eos_id(), -1);
  EXPECT_EQ(tokens_of(file), (std::vector<int32_t>{69999, 'x', 69999, 'y'}));
}

TEST(PrepareTokens, PiecesOfALongDocumentAreOneDocument) {
  TemporaryDirectory directory;
  std::string text;
  while (text.size() < (size_t{3} << 20)) text += concat("line ", text.size(), "\n");
  const std::string path = directory.write("a.txt", text);
  int texts = 0;
  TextEncoder encoder = byte_encoder();
  encoder.encode = [&texts, inner = byte_encoder().encode](std::span<const std::string> batch,
                                                           std::vector<std::vector<int32_t>>& ids) {
    texts += static_cast<int>(batch.size());
    inner(batch, ids);
  };
  prepare_tokens(encoder, {path}, directory / "c");
  EXPECT_GE(texts, 3);
  const TokenFile file(directory / "c");
  EXPECT_EQ(file.documents(), 1);
  const std::vector<int32_t> ids = tokens_of(file);
  ASSERT_EQ(ids.size(), text.size() + 1);
  EXPECT_TRUE(std::equal(text.begin(), text.end(), ids.begin()));
  EXPECT_EQ(ids.back(), 256);
}

TEST(PrepareTokens, RefusesAndLeavesNothing) {
  TemporaryDirectory directory;
  directory.write("empty.txt", "");
  EXPECT_NE(error_of([&] {
              prepare_tokens(byte_encoder(), {directory / "empty.txt"}, directory / "c");
            }).find("empty corpus: no text in 1 file"),
            std::string::npos);
  directory.write("a.txt", "xyz");
  EXPECT_NE(error_of([&] {
              prepare_tokens(byte_encoder(100), {directory / "a.txt"}, directory / "c");
            }).find("token id 120 is outside the vocabulary of 100"),
            std::string::npos);
  EXPECT_EQ(directory.count(), 2u);
}

TEST(TokenFile, RefusesDamagedFiles) {
  TemporaryDirectory directory;
  prepare_tokens(byte_encoder(), {directory.write("a.txt", "ab\ncd")}, directory / "c", {.separator = "line"});
  const std::string bin = directory.read("c.bin"), idx = directory.read("c.idx");
  const auto error_with = [&](const std::string& new_bin, std::string new_idx, bool fix_crc = true) {
    if (fix_crc && new_idx.size() >= 8) {
      const uint64_t crc = crc32(0, new_idx.data(), new_idx.size() - 8);
      std::memcpy(new_idx.data() + new_idx.size() - 8, &crc, 8);
    }
    directory.write("c.bin", new_bin);
    directory.write("c.idx", new_idx);
    return error_of([&] {
      const TokenFile file(directory / "c");
      tokens_of(file);
    });
  };
  const auto changed = [&](size_t place, uint64_t value) {
    std::string copy = idx;
    std::memcpy(copy.data() + place, &value, 8);
    return copy;
  };
  const auto expect = [](const std::string& error, const std::string& why) {
    EXPECT_NE(error.find(why), std::string::npos) << "expected: " << why << "\n     got: " << error;
  };
  const size_t footer = idx.size() - 64;
  EXPECT_EQ(error_with(bin, idx), "no error");
  expect(error_with(bin.substr(2), idx), "has 10 bytes, expected 12");
  expect(error_with(bin + "xx", idx), "has 14 bytes, expected 12");
  expect(error_with(bin, idx.substr(0, 40)), "too short");
  expect(error_with(bin, ""), "too short");
  expect(error_with(bin, "x" + idx.substr(1)), "not an index");
  expect(error_with(bin, changed(8, 3)), "unknown version");
  expect(error_with(bin, changed(8, 1 | uint64_t{3} << 32)), "ids of 3 bytes");
  expect(error_with(bin, changed(16, 1)), "document 0 begins at token 1");
  expect(error_with(bin, changed(24, 7)), "document 1 begins at token 7");
  expect(error_with(bin, changed(footer, 3)), "offsets for 3 documents");
  expect(error_with(bin, changed(footer, uint64_t{1} << 61)), "offsets for 2305843009213693952 documents");
  expect(error_with(bin, changed(footer + 8, uint64_t{1} << 63)), "expected 12");
  expect(error_with(bin, changed(footer + 16, 0)), "vocabulary size 0");
  expect(error_with(bin, changed(footer + 16, 50)), "end-of-document id 256 in a vocabulary of 50");
  expect(error_with(bin, changed(footer + 32, uint64_t{1} << 40)), "end-of-document id 1099511627776");
  expect(error_with("\xff\xff" + bin.substr(2), idx), "token id 65535 is outside the vocabulary of 257");
  expect(error_with(bin, changed(footer + 24, 5), false), "the checksum of the index is wrong");
  EXPECT_EQ(error_with("X" + bin.substr(1), idx), "no error");  // sizes are right: only verify() reads every byte
  expect(error_of([&] { TokenFile(directory / "c").verify(); }), "the checksum of the tokens is wrong");
  expect(error_of([&] { TokenFile file(directory / "none"); }), "cannot open file: No such file");
}

}  // namespace
}  // namespace ondol
