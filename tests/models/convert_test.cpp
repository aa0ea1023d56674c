// Conversions: what comes back is byte for byte what went in.
#include <ondol/models/convert.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include <ondol/io/gguf.h>
#include <ondol/io/model_weights.h>
#include <ondol/models/model.h>
#include <ondol/tokenizer/tokenizer.h>

#include <gtest/gtest.h>

#include "base/json_reader.h"
#include "support/error_of.h"
#include "support/temporary_directory.h"
#include "support/test_data.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::TemporaryDirectory;

constexpr const char* kSmol = "models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf";

/// Every tensor of `expected` is in `actual` with the same dtype, shape and bytes.
void expect_same_tensors(const std::string& actual, const std::string& expected) {
  const ModelWeights a(actual), b(expected);
  EXPECT_EQ(a.names().size(), b.names().size());
  for (const std::string& name : b.names()) {
    ASSERT_TRUE(a.has(name)) << name;
    const Tensor x = a.tensor(name), y = b.tensor(name);
    EXPECT_EQ(x.dtype(), y.dtype()) << name;
    ASSERT_EQ(x.shape(), y.shape()) << name;
    EXPECT_EQ(std::memcmp(x.raw(), y.raw(), static_cast<size_t>(x.numel()) * dtype_size(x.dtype())), 0) << name;
  }
}

std::vector<float> logits_of(const std::string& path) {
  const auto model = load_model(path, {.device = "cpu", .dtype = DType::f32});
  ModelInput input;
  input.input_ids = Tensor::from_vector<int32_t>({3, 1, 4, 1, 5, 9, 2, 6}, {1, 8});
  return model->logits(model->hidden(input, {}).value()).to_vector<float>();
}

class HfToGgufAndBack : public ::testing::TestWithParam<const char*> {};

TEST_P(HfToGgufAndBack, KeepsBytesAndLogits) {
  const std::string relative = std::string("hf_tiny/") + GetParam();
  ONDOL_REQUIRE_DATA(relative);
  const std::string source = test::data_path(relative);
  const TemporaryDirectory directory;
  for (const char* dtype : {"f32", "bf16"}) {
    const std::string prefix = directory / dtype;
    convert_model(source, prefix + "-in", {.dtype = dtype});
    convert_model(prefix + "-in", prefix + ".gguf");
    convert_model(prefix + ".gguf", prefix + "-out");
    expect_same_tensors(prefix + "-out", prefix + "-in");
    EXPECT_EQ(logits_of(prefix + ".gguf"), logits_of(prefix + "-in")) << dtype;
    EXPECT_EQ(logits_of(prefix + "-out"), logits_of(prefix + "-in")) << dtype;
  }
  expect_same_tensors(directory / "f32-in", source);
  EXPECT_EQ(logits_of(directory / "f32.gguf"), logits_of(source));
}

INSTANTIATE_TEST_SUITE_P(Families, HfToGgufAndBack, ::testing::Values("gpt2", "llama", "llama-gqa", "llama3-rope"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Convert, SmolLmKeepsTokenizerAndTemplate) {
  ONDOL_REQUIRE_DATA(kSmol);
  const TemporaryDirectory directory;
  const std::string source = test::data_path(kSmol);
  convert_model(source, directory / "copy.gguf");
  EXPECT_EQ(std::filesystem::file_size(directory / "copy.gguf"), std::filesystem::file_size(source));
  convert_model(source, directory / "hf", {.dtype = "bf16", .max_shard_bytes = 100'000'000});
  EXPECT_TRUE(std::filesystem::exists(directory / "hf/model-00003-of-00003.safetensors"));
  convert_model(directory / "hf", directory / "b.gguf");
  convert_model(directory / "b.gguf", directory / "back");
  expect_same_tensors(directory / "back", directory / "hf");
  EXPECT_EQ(directory.read("back/tokenizer.json"), directory.read("hf/tokenizer.json"));
  EXPECT_EQ(directory.read("back/config.json"), directory.read("hf/config.json"));
  const Json reference = load_json(test::data_path("vectors/smollm2/reference.json"));
  const Tokenizer original = load_tokenizer(source);
  for (const char* path : {"hf", "b.gguf", "back"}) {
    const Tokenizer tokenizer = load_tokenizer(directory / path);
    EXPECT_EQ(tokenizer.chat_template(), original.chat_template()) << path;
    EXPECT_EQ(tokenizer.special_token_id("eos"), 2) << path;
    for (const Json& text : reference["tokenization"]) {
      EXPECT_EQ(tokenizer.encode(text["text"].get<std::string>()), text["ids"].get<std::vector<int32_t>>()) << path;
    }
  }
  // The keys that llama.cpp reads say the same as those of the file that its own converter wrote.
  const GgufFile ours(directory / "b.gguf"), theirs(source);
  for (const GgufValue& value : theirs.values()) {
    if (value.key.starts_with("general.")) continue;
    const GgufValue* other = ours.find_value(value.key);
    ASSERT_NE(other, nullptr) << value.key;
    EXPECT_EQ(other->type, value.type) << value.key;
    EXPECT_EQ(ours.raw(*other).bytes, theirs.raw(value).bytes) << value.key;
  }
  for (const GgufTensor& tensor : theirs.tensors()) {
    ASSERT_NE(ours.find(tensor.name), nullptr) << tensor.name;
    EXPECT_EQ(ours.find(tensor.name)->shape, tensor.shape) << tensor.name;
  }
}

TEST(Convert, QuantisedBlocksAreThoseOfTheQuantiser) {
  ONDOL_REQUIRE_DATA("models/stories260K");
  const TemporaryDirectory directory;
  const std::string source = test::data_path("models/stories260K/stories260K-f32.gguf");
  convert_model(source, directory / "q4.gguf", {.dtype = "q4_0"});
  const GgufFile before(source), after(directory / "q4.gguf");
  EXPECT_EQ(after.integer("general.file_type"), 2);
  EXPECT_STREQ(after.find("token_embd.weight")->type->name, "Q8_0");
  EXPECT_STREQ(after.find("blk.0.ffn_down.weight")->type->name, "F16") << "rows of 172 are no whole blocks";
  EXPECT_STREQ(after.find("output_norm.weight")->type->name, "F32");
  const GgufTensor& q = *after.find("blk.0.attn_q.weight");
  ASSERT_STREQ(q.type->name, "Q4_0");
  const std::vector<float> row = before.tensor(*before.find(q.name)).narrow(0, 5, 1).to_vector<float>();
  std::vector<uint8_t> expected(36);
  quantize_row(QuantFormat::q4_0, row.data(), 64, expected.data());
  EXPECT_EQ(after.tensor(q).narrow(0, 5, 1).to_vector<uint8_t>(), expected);
}

TEST(Convert, ReadsLlama2cCheckpoints) {
  ONDOL_REQUIRE_DATA("models/stories260K");
  const TemporaryDirectory directory;
  convert_model(test::data_path("models/stories260K/stories260K.bin"), directory / "out");
  expect_same_tensors(directory / "out", test::data_path("models/stories260K"));
}

TEST(Convert, RefusesWhatItCannotDo) {
  const TemporaryDirectory directory;
  const std::string pickle = directory.write("pytorch_model.bin", std::string("PK\3\4") + std::string(200, 'x'));
  EXPECT_NE(error_of([&] { convert_model(pickle, directory / "out"); }).find("cannot read a llama2.c checkpoint: "),
            std::string::npos);
  EXPECT_NE(error_of([&] { convert_model(directory.write("a.pt", "x"), directory / "out"); }).find("neither a model"),
            std::string::npos);
  EXPECT_NE(error_of([&] { convert_model(directory / "absent", directory / "out"); }).find("no such file"),
            std::string::npos);
  EXPECT_NE(error_of([&] { convert_model(pickle, directory / "out", {.dtype = "q2_k"}); }).find("\"q2_k\""),
            std::string::npos);
  std::filesystem::create_directory(directory / "model");
  directory.write("model/config.json", R"({"model_type": "gpt2", "n_embd": 4, "n_head": 1, "n_layer": 1})");
  directory.write("model/model.safetensors.index.json", R"({"weight_map": {"wte.weight": "../a.safetensors"}})");
  EXPECT_NE(error_of([&] { convert_model(directory / "model", directory / "out"); }).find("is not a plain name"),
            std::string::npos);
  EXPECT_EQ(directory.count(), 3u) << "something was left behind";
}

TEST(Convert, LeavesNothingBehindWhenItFails) {
  ONDOL_REQUIRE_DATA("hf_tiny/llama");
  const TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "out");
  directory.write("out/mine", "x");
  const std::string source = test::data_path("hf_tiny/llama");
  EXPECT_NE(error_of([&] { convert_model(source, directory / "out"); }).find("the destination exists"),
            std::string::npos);
  EXPECT_NE(error_of([&] { convert_model(source, directory / "new", {.dtype = "q8_0"}); }).find("no quantised blocks"),
            std::string::npos);
  EXPECT_EQ(directory.count(), 1u);
}

}  // namespace
}  // namespace ondol
