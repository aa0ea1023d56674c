#include <ondol/io/safetensors.h>

#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

#include "support/error_of.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::TemporaryDirectory;

std::string file_bytes(const std::string& header, const std::string& data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i));
  return bytes + header + data;
}

TEST(Safetensors, ReadsAHandWrittenFile) {
  TemporaryDirectory directory;
  // Values from IEEE 754: 1.0f = 3f800000, -2.0f = c0000000; bfloat16 0.5 = 3f00.
  const std::string path = directory.write(
      "a", file_bytes(R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                      R"("h":{"dtype":"BF16","shape":[],"data_offsets":[8,10]},)"
                      R"("empty":{"shape":[0,3],"data_offsets":[10,10],"dtype":"I64"}}   )",
                      std::string("\0\0\x80\x3f\0\0\0\xc0\0\x3f", 10)));
  const SafetensorsFile file(path);
  ASSERT_EQ(file.entries().size(), 3u);
  EXPECT_EQ(file.metadata(), (SafetensorsMetadata{{"format", "pt"}}));
  EXPECT_EQ(file.tensor("w").shape(), (Shape{2, 1}));
  EXPECT_EQ(file.tensor("w").to_vector<float>(), (std::vector<float>{1.0f, -2.0f}));
  EXPECT_EQ(file.tensor("h").item(), 0.5);
  EXPECT_EQ(file.tensor("h").ndim(), 0);
  EXPECT_EQ(file.tensor("empty").shape(), (Shape{0, 3}));
  EXPECT_FALSE(file.has("x"));
  EXPECT_EQ(error_of([&] { file.tensor("x"); }), "no such tensor: \"x\" (" + path + ")");
}

TEST(Safetensors, ViewsAreZeroCopyAndOutliveTheFile) {
  TemporaryDirectory directory;
  write_safetensors(directory / "a", {{"w", Tensor::from_vector<float>({1, 2, 3, 4}, {2, 2})}});
  Tensor view;
  {
    const SafetensorsFile file(directory / "a");
    view = file.tensor("w");
    EXPECT_EQ(view.raw(), file.bytes(file.entries()[0]));
  }
  std::filesystem::remove(directory / "a");
  EXPECT_EQ(view.to_vector<float>(), (std::vector<float>{1, 2, 3, 4}));
}

TEST(Safetensors, MisalignedDataAreCopied) {
  TemporaryDirectory directory;
  const std::string path = directory.write("a", file_bytes(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                                           R"("w":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})",
                                                           std::string("\7\0\0\x80\x3f", 5)));
  const Tensor w = SafetensorsFile(path).tensor("w");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(w.raw()) % 4, 0u);
  EXPECT_EQ(w.item(), 1.0);
}

TEST(Safetensors, WritesEveryDTypeStridedAndAligned) {
  TemporaryDirectory directory;
  const Tensor matrix = Tensor::from_vector<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  NamedTensors tensors = {{"flag", Tensor::from_vector<uint8_t>({1, 0, 1}, {3})},
                          {"transposed", matrix.transpose(0, 1)},
                          {"half", matrix.to(DType::f16)},
                          {"brain", matrix.to(DType::bf16)},
                          {"double", matrix.to(DType::f64)},
                          {"long", Tensor::from_vector<int64_t>({-1, int64_t{1} << 40}, {2})},
                          {"int", Tensor::from_vector<int32_t>({7}, {})},
                          {"scharfes ß \"quoted\"", Tensor::zeros({0})}};
  write_safetensors(directory / "a", tensors, {.metadata = {{"k", "v"}}});
  EXPECT_EQ(directory.count(), 1u);
  const SafetensorsFile file(directory / "a");
  EXPECT_EQ(file.metadata(), (SafetensorsMetadata{{"k", "v"}}));
  for (const auto& [name, tensor] : tensors) {
    const Tensor read = file.tensor(name);
    EXPECT_EQ(read.dtype(), tensor.dtype()) << name;
    EXPECT_EQ(read.shape(), tensor.shape()) << name;
    EXPECT_EQ(read.to_vector<double>(), tensor.to_vector<double>()) << name;
    EXPECT_EQ(file.find(name)->offset % dtype_size(tensor.dtype()), 0u) << name;
  }
  EXPECT_EQ(file.tensor("transposed").to_vector<float>(), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  // Wider elements first, the order given otherwise; the same call gives the same bytes.
  EXPECT_EQ(file.entries()[0].name, "double");
  EXPECT_EQ(file.entries()[1].name, "long");
  EXPECT_EQ(file.entries().front().offset % 8, 0u);
  write_safetensors(directory / "b", tensors, {.metadata = {{"k", "v"}}});
  EXPECT_EQ(directory.read("a"), directory.read("b"));

  write_safetensors(directory / "c", tensors, {.floating_dtype = DType::bf16});
  EXPECT_EQ(SafetensorsFile(directory / "c").tensor("double").dtype(), DType::bf16);
  EXPECT_EQ(SafetensorsFile(directory / "c").tensor("long").dtype(), DType::i64);
  EXPECT_NE(error_of([&] {
              write_safetensors(directory / "d", {{"a", matrix}, {"a", matrix}});
            }).find("\"a\""),
            std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(directory / "d"));
}

TEST(Safetensors, RefusesMalformedFiles) {
  TemporaryDirectory directory;
  struct Case {
    std::string bytes;
    std::string why;
  };
  const auto entry = [](const std::string& name, const std::string& shape, const std::string& offsets,
                        const std::string& dtype = "U8") {
    return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + offsets +
           "]}";
  };
  const std::string good = file_bytes("{" + entry("a", "4", "0,4") + "}", "1234");
  const std::string many_dims = "1,1,1,1,1,1,1";
  const std::vector<Case> cases = {
      {"", "the file has 0 bytes"},
      {"1234567", "the file has 7 bytes"},
      {std::string("\0\xe4\x0b\x54\x02\0\0\0", 8) + "{}", "the header claims 10000000000 bytes"},
      {std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8) + "{}", "the header claims 18446744073709551615 bytes"},
      {std::string("\x40\0\0\0\0\0\0\0", 8) + "{}", "the header claims 64 bytes, the file holds 2"},
      {good.substr(0, good.size() - 1), "tensor \"a\": ends at byte 0+4 of 3 bytes"},
      {good + "5", "1 bytes of data belong to no tensor"},
      {file_bytes("", ""), "does not start with"},
      {file_bytes(" {}", ""), "does not start with"},
      {file_bytes("[]", ""), "does not start with"},
      {file_bytes("{", ""), "not valid JSON"},
      {file_bytes("{}}", ""), "not valid JSON"},
      {file_bytes("{\"\xff\":1}", ""), "not valid JSON"},
      {file_bytes("{\"a\":" + std::string(100000, '['), ""), "tensor \"a\": an array where"},
      {file_bytes("{\"a\":" + std::string(1000, '{'), ""), "not valid JSON at byte 7"},
      {file_bytes("{\"a\":7}", ""), "tensor \"a\": a number where"},
      {file_bytes("{\"a\":null}", ""), "tensor \"a\": null where"},
      {file_bytes("{\"a\":{}}", ""), "tensor \"a\": dtype, shape or data_offsets is missing"},
      {file_bytes("{" + entry("a", "4", "0,4", "F8") + "}", "1234"), "tensor \"a\": unsupported dtype \"F8\""},
      {file_bytes("{" + entry("a", "4", "0,4") + "," + entry("a", "0", "4,4") + "}", "1234"),
       "tensor \"a\": the name is there twice"},
      {file_bytes("{" + entry("a", "4", "0,4") + "," + entry("b", "2", "3,5") + "}", "12345"),
       "tensor \"b\": overlaps \"a\""},
      {file_bytes("{" + entry("a", "4", "0,4") + "," + entry("b", "4", "0,4") + "}", "1234"),
       "tensor \"b\": overlaps \"a\""},
      {file_bytes("{" + entry("a", "1", "0,1") + "," + entry("b", "1", "3,4") + "}", "1234"),
       "tensor \"b\": 2 unused bytes"},
      {file_bytes("{" + entry("a", "2", "2,4") + "}", "1234"), "tensor \"a\": 2 unused bytes"},
      {file_bytes("{" + entry("a", "4", "4,0") + "}", "1234"), "tensor \"a\": data_offsets run backwards"},
      {file_bytes("{" + entry("a", "4", "0,5") + "}", "12345"), "its shape takes 4 bytes, data_offsets span 5"},
      {file_bytes("{" + entry("a", "2", "0,4", "F32") + "}", "1234"), "its shape takes 8 bytes, data_offsets span 4"},
      {file_bytes("{" + entry("a", "4294967296,4294967296", "0,0") + "}", ""), "product of its shape overflows"},
      {file_bytes("{" + entry("a", "4611686018427387904", "0,0", "F32") + "}", ""), "product of its shape overflows"},
      {file_bytes("{" + entry("a", "0,9223372036854775807,9223372036854775807", "0,0") + "}", ""),
       "product of its shape overflows"},
      {file_bytes("{" + entry("a", "18446744073709551615", "0,0") + "}", ""), "is too large"},
      {file_bytes("{" + entry("a", "99999999999999999999999", "0,0") + "}", ""), "a fraction where"},
      {file_bytes("{" + entry("a", "-1", "0,0") + "}", ""), "negative number -1"},
      {file_bytes("{" + entry("a", "1.5", "0,0") + "}", ""), "a fraction where"},
      {file_bytes("{" + entry("a", many_dims, "0,1") + "}", "1"), "more than 6 dimensions"},
      {file_bytes("{" + entry("a", "1", "0") + "}", "1"), "data_offsets must hold two numbers"},
      {file_bytes("{" + entry("a", "1", "0,1,2") + "}", "1"), "more than two numbers"},
      {file_bytes("{" + entry("a", "1", "18446744073709551615,18446744073709551615") + "}", "1"), "span 0"},
      {file_bytes("{" + entry("a", "0", "18446744073709551615,18446744073709551615") + "}", ""), "ends at byte"},
      {file_bytes("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", ""), "field \"dtype\" is there twice"},
      {file_bytes("{\"a\":{\"x\":1}}", ""), "unknown field \"x\""},
      {file_bytes("{\"__metadata__\":{\"a\":1}}", ""), "a number where"},
      {file_bytes("{\"a\":{\"dtype\":\"" + std::string(size_t{17} << 20, 'x') + "\"}}", ""), "a text of more than"},
      {file_bytes("{\"__metadata__\":[]}", ""), "an array where"},
      {file_bytes("{\"__metadata__\":{},\"__metadata__\":{}}", ""), "there twice"},
  };
  for (const Case& test : cases) {
    const std::string path = directory.write("x.safetensors", test.bytes);
    const std::string error = error_of([&] { SafetensorsFile file(path); });
    EXPECT_TRUE(error.starts_with("cannot read safetensors: ")) << error;
    EXPECT_NE(error.find(test.why), std::string::npos) << "expected: " << test.why << "\n     got: " << error;
    EXPECT_TRUE(error.ends_with("(" + path + ")")) << error;
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }
  EXPECT_EQ(error_of([&] { SafetensorsFile file(directory.write("x.safetensors", good)); }), "no error");
}

// Every single-byte change of a small file is either refused or read within bounds.
TEST(Safetensors, SurvivesEveryByteChange) {
  TemporaryDirectory directory;
  const std::string good = file_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                      R"("b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})",
                                      "12345678abc");
  int refused = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    for (const char value : {'\0', '9', '"', '[', '}', '\xff'}) {
      std::string bytes = good;
      bytes[i] = value;
      const std::string path = directory.write("x", bytes);
      try {
        const SafetensorsFile file(path);
        for (const SafetensorsEntry& entry : file.entries()) file.tensor(entry).to_vector<double>();
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 400);
}

TEST(Safetensors, RoundTripsReferenceModels) {
  const std::string data = testing::test_data();
  if (data.empty()) GTEST_SKIP() << "skipped: ONDOL_TEST_DATA is not set";
  TemporaryDirectory directory;
  int models = 0, tensors = 0;
  for (const auto& model : std::filesystem::directory_iterator(data + "/hf_tiny")) {
    const SafetensorsFile file((model.path() / "model.safetensors").string());
    NamedTensors all;
    for (const SafetensorsEntry& entry : file.entries()) all.emplace_back(entry.name, file.tensor(entry));
    write_safetensors(directory / "copy.safetensors", all, {.metadata = file.metadata()});
    const SafetensorsFile copy(directory / "copy.safetensors");
    ASSERT_EQ(copy.entries().size(), file.entries().size());
    for (const SafetensorsEntry& entry : file.entries()) {
      const SafetensorsEntry* other = copy.find(entry.name);
      ASSERT_NE(other, nullptr);
      ASSERT_EQ(other->shape, entry.shape);
      ASSERT_EQ(other->dtype, entry.dtype);
      ASSERT_EQ(std::memcmp(copy.bytes(*other), file.bytes(entry), entry.bytes), 0);
      ++tensors;
    }
    ++models;
  }
  EXPECT_GE(models, 30);
  EXPECT_GE(tensors, 500);
}

}  // namespace
}  // namespace ondol
