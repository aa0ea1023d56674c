#include <ondol/io/gguf.h>

#include <filesystem>

#include <gtest/gtest.h>

#include "support/error_of.h"
#include "support/gguf_bytes.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::GgufBytes;
using testing::TemporaryDirectory;

std::string floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

TEST(Gguf, ReadsAHandWrittenFile) {
  const TemporaryDirectory directory;
  // Q8_0: scale 0.5 (0x3800), values -2, 3, 0, ...
  std::string block(34, '\0');
  block[1] = 0x38, block[2] = static_cast<char>(-2), block[3] = 3;
  GgufBytes file;
  file.string("general.architecture", "llama").u32("llama.block_count", 7).f32("eps", 0.5f).flag("yes", true);
  file.value("i8", 1, GgufBytes::raw<int8_t>(-5)).value("u64", 10, GgufBytes::raw<uint64_t>(1ull << 63));
  file.strings("words", {"a", "", "bc"}).i32s("numbers", {3, -4});
  file.tensor("w", {2, 3}, 0, floats({1, 2, 3, 4, 5, 6})).tensor("q", {32, 1}, 8, block);
  const GgufFile read(directory.write("a.gguf", file.bytes()));
  EXPECT_TRUE(is_gguf_file(read.path()));
  EXPECT_EQ(read.version(), 3u);
  EXPECT_EQ(read.require_text("general.architecture"), "llama");
  EXPECT_EQ(read.integer("llama.block_count"), 7);
  EXPECT_EQ(read.number("eps"), 0.5);
  EXPECT_EQ(read.flag("yes"), true);
  EXPECT_EQ(read.integer("i8"), -5);
  EXPECT_EQ(read.integer("absent"), std::nullopt);
  EXPECT_EQ(read.texts("words"), (std::vector<std::string>{"a", "", "bc"}));
  EXPECT_EQ(read.integers("numbers"), (std::vector<int64_t>{3, -4}));
  const auto message = [&](const std::string& key, const std::string& why) {
    return "cannot read GGUF: key \"" + key + "\": " + why + " (" + read.path() + ")";
  };
  EXPECT_EQ(error_of([&] { read.integer("u64"); }), message("u64", "9223372036854775808 is out of range"));
  EXPECT_EQ(error_of([&] { read.integer("eps"); }), message("eps", "an integer is expected, not f32"));
  EXPECT_EQ(error_of([&] { read.integer("words"); }), message("words", "one value is expected, not an array"));
  EXPECT_EQ(error_of([&] { read.texts("yes"); }), message("yes", "an array is expected"));
  EXPECT_EQ(error_of([&] { read.require_integer("no"); }), message("no", "it is missing"));

  ASSERT_NE(read.find("w"), nullptr);
  const Tensor w = read.tensor(*read.find("w"));
  EXPECT_EQ(w.shape(), (Shape{3, 2}));
  EXPECT_EQ(w.to_vector<float>(), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  const GgufTensor& q = *read.find("q");
  EXPECT_EQ(q.shape, (Shape{1, 32}));
  EXPECT_EQ(read.tensor(q).shape(), (Shape{1, 34}));
  std::vector<float> row(32);
  read.dequantize_rows(q, 0, 1, row.data());
  EXPECT_EQ(row[0], -1.0f);
  EXPECT_EQ(row[1], 1.5f);
  EXPECT_EQ(read.find("x"), nullptr);
}

TEST(Gguf, WritesWhatItReads) {
  const TemporaryDirectory directory;
  const Tensor w = Tensor::from_vector<float>({1, 2, 3}, {3});
  const Tensor h = Tensor::from_vector<float>({0.5f, -0.25f}, {2, 1}).to(DType::f16);
  write_gguf(directory / "a.gguf",
             {{"text", "value"},
              {"flag", true},
              {"count", uint32_t{5}},
              {"large", uint64_t{1} << 40},
              {"number", 0.25f},
              {"words", std::vector<std::string>{"x", "yz"}},
              {"scores", std::vector<float>{-1.5f}},
              {"types", std::vector<int32_t>{1, 3}}},
             {{"w", w.shape(), &gguf_type_of(DType::f32), [&] { return w; }},
              {"h", h.shape(), &gguf_type_of(DType::f16), [&] { return h; }}});
  EXPECT_EQ(directory.count(), 1u);
  const GgufFile read(directory / "a.gguf");
  EXPECT_EQ(read.text("text"), "value");
  EXPECT_EQ(read.flag("flag"), true);
  EXPECT_EQ(read.integer("count"), 5);
  EXPECT_EQ(read.integer("large"), int64_t{1} << 40);
  EXPECT_EQ(read.number("number"), 0.25);
  EXPECT_EQ(read.texts("words"), (std::vector<std::string>{"x", "yz"}));
  EXPECT_EQ(read.numbers("scores"), (std::vector<double>{-1.5}));
  EXPECT_EQ(read.integers("types"), (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(read.tensor(*read.find("w")).to_vector<float>(), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(read.tensor(*read.find("h")).to_vector<float>(), (std::vector<float>{0.5f, -0.25f}));
  EXPECT_EQ(read.find("h")->offset % 32, 0u);
  const Tensor wrong = Tensor::zeros({4});
  EXPECT_THROW(
      write_gguf(directory / "b.gguf", {}, {{"w", w.shape(), &gguf_type_of(DType::f32), [&] { return wrong; }}}),
      Error);
  EXPECT_THROW(write_gguf(directory / "b.gguf", {{"a", true}, {"a", true}}, {}), Error);
  EXPECT_THROW(
      write_gguf(directory / "b.gguf", {}, {{"w", w.shape(), &gguf_type_of(QuantFormat::q8_0), [&] { return w; }}}),
      Error);
  EXPECT_EQ(directory.count(), 1u) << "a failed write left a file";
}

TEST(Gguf, RefusesBadFiles) {
  const TemporaryDirectory directory;
  const auto why = [&](const std::string& bytes) {
    const std::string path = directory.write("bad.gguf", bytes);
    std::string message = error_of([&] { GgufFile file(path); });
    const std::string begin = "cannot read GGUF: ", end = " (" + path + ")";
    if (!message.starts_with(begin) || !message.ends_with(end)) return "odd message: " + message;
    return message.substr(begin.size(), message.size() - begin.size() - end.size());
  };
  const std::string one = floats({1});
  EXPECT_EQ(why(""), "the file does not begin with \"GGUF\"");
  EXPECT_EQ(why("GGU"), "the file does not begin with \"GGUF\"");
  EXPECT_EQ(why("GGUF"), "the file ends inside the version");
  GgufBytes file;
  file.version = 1;
  EXPECT_EQ(why(file.bytes()), "version 1: 2 and 3 are supported");
  file.version = 3u << 24;
  EXPECT_EQ(why(file.bytes()), "the file is big-endian, little-endian is read");
  EXPECT_EQ(why("GGUF" + GgufBytes::raw<uint32_t>(3) + GgufBytes::raw<uint64_t>(1)),
            "the file ends inside the number of values");

  GgufBytes claims;
  claims.extra_values = 1ull << 60;
  EXPECT_EQ(why(claims.bytes()), "it claims 1152921504606846976 metadata values");
  claims.extra_values = 0;
  claims.extra_tensors = 1ull << 61;
  EXPECT_EQ(why(claims.bytes()), "it claims 2305843009213693952 tensors");

  EXPECT_EQ(why(GgufBytes().value("k", 13, "xxxx").bytes()), "key \"k\": value type 13 is unknown");
  EXPECT_EQ(why(GgufBytes().value("k", 9, GgufBytes::raw<uint32_t>(9) + GgufBytes::raw<uint64_t>(0)).bytes()),
            "key \"k\": arrays of arrays are not supported");
  EXPECT_EQ(why(GgufBytes().value("k", 9, GgufBytes::raw<uint32_t>(4) + GgufBytes::raw<uint64_t>(1ull << 62)).bytes()),
            "key \"k\": 4611686018427387904 numbers do not fit into the file");
  EXPECT_EQ(why(GgufBytes().value("k", 9, GgufBytes::raw<uint32_t>(8) + GgufBytes::raw<uint64_t>(1ull << 62)).bytes()),
            "key \"k\": 4611686018427387904 texts do not fit into the file");
  EXPECT_EQ(why(GgufBytes().value("k", 8, GgufBytes::raw<uint64_t>(~0ull)).bytes()).substr(0, 43),
            "key \"k\": a text claims 18446744073709551615");
  EXPECT_EQ(why(GgufBytes().u32("", 1).bytes()), "a key has 0 bytes, 1 to 65535 are allowed");
  EXPECT_EQ(why(GgufBytes().u32("k", 1).u32("k", 2).bytes()), "key \"k\" is there twice");
  EXPECT_EQ(why(GgufBytes().u32("general.alignment", 24).bytes()),
            "key \"general.alignment\": 24 is no power of two from 8 to 65536");

  EXPECT_EQ(why(GgufBytes().tensor("t", {1}, 0, one).tensor("t", {1}, 0, one).bytes()),
            "tensor \"t\": the name is there twice");
  EXPECT_EQ(why(GgufBytes().tensor("t", {1}, 99, one).bytes()), "tensor \"t\": tensor type 99 is unknown");
  EXPECT_EQ(why(GgufBytes().tensor("t", {1, 1, 1, 1, 1}, 0, one).bytes()),
            "tensor \"t\": 5 dimensions, at most 4 are allowed");
  EXPECT_EQ(why(GgufBytes().tensor("t", {1ull << 32, 1ull << 32}, 0, one).bytes()),
            "tensor \"t\": the product of its shape overflows");
  EXPECT_EQ(why(GgufBytes().tensor("t", {0, 1ull << 63}, 0, "").bytes()),
            "tensor \"t\": the product of its shape overflows");
  EXPECT_EQ(why(GgufBytes().tensor("t", {33}, 8, std::string(68, 'x')).bytes()),
            "tensor \"t\": rows of 33 elements are no whole blocks of Q8_0 (32 elements)");
  EXPECT_EQ(why(GgufBytes().tensor_at("t", {1}, 0, 4, one).bytes()),
            "tensor \"t\": offset 4 is no multiple of the alignment 32");
  EXPECT_EQ(why(GgufBytes().tensor("t", {9}, 0, one).bytes()), "tensor \"t\": ends at byte 0+36 of 32 bytes of data");
  EXPECT_EQ(why(GgufBytes().tensor_at("t", {1}, 0, 1ull << 63, one).bytes()),
            "tensor \"t\": ends at byte 9223372036854775808+4 of 32 bytes of data");
  EXPECT_EQ(why(GgufBytes().tensor("a", {1}, 0, one).tensor_at("b", {1}, 0, 0, one).bytes()),
            "tensor \"b\": overlaps another tensor");
  EXPECT_EQ(why(GgufBytes().tensor("a", {1}, 0, one).tensor_at("b", {1}, 0, 64, one + std::string(60, 'x')).bytes()),
            "tensor \"b\": 60 unused bytes lie before it");
  EXPECT_EQ(why(GgufBytes().tensor("a", {1}, 0, one).bytes() + std::string(32, 'x')),
            "60 bytes of data belong to no tensor");
  const std::string whole = GgufBytes().string("k", "v").strings("l", {"a", "b"}).tensor("a", {1}, 0, one).bytes();
  for (size_t length = 0; length + 32 < whole.size(); ++length) {
    EXPECT_FALSE(why(whole.substr(0, length)).starts_with("odd")) << length;
  }
}

TEST(Gguf, NamesTypesThatCannotBeRead) {
  const TemporaryDirectory directory;
  const GgufFile file(directory.write("a.gguf", GgufBytes().tensor("t", {256}, 10, std::string(84, 'x')).bytes()));
  const std::string message = error_of([&] { file.tensor(*file.find("t")); });
  EXPECT_NE(message.find("tensor \"t\": type Q2_K is not supported, only F32"), std::string::npos) << message;
}

TEST(Gguf, AcceptsAFileThatEndsWithItsLastTensor) {
  const TemporaryDirectory directory;
  GgufBytes bytes;
  bytes.tensor("a", {1}, 0, floats({2}));
  bytes.padded_end = false;
  const GgufFile file(directory.write("a.gguf", bytes.bytes()));
  EXPECT_EQ(file.tensor(*file.find("a")).item(), 2.0);
}

}  // namespace
}  // namespace ondol
