#include <ondol/io/model_weights.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

using nlohmann::json;
using testing::TemporaryDirectory;

NamedTensors five_tensors() {
  NamedTensors tensors;
  for (int i = 0; i < 5; ++i) {
    tensors.emplace_back("layer." + std::to_string(i), Tensor::full({10}, i));  // 40 bytes each
  }
  return tensors;
}

Error open_error(const std::string& path) {
  try {
    ModelWeights weights(path);
  } catch (const Error& error) {
    return error;
  }
  return Error("no error");
}

void expect_error(const std::string& path, const std::string& why) {
  const std::string message = open_error(path).what();
  EXPECT_NE(message.find(why), std::string::npos) << "expected: " << why << "\n     got: " << message;
}

TEST(ModelWeights, SingleFileAndShardsHoldTheSame) {
  TemporaryDirectory directory;
  const NamedTensors tensors = five_tensors();
  write_model_weights(directory.path(), tensors);
  EXPECT_EQ(directory.count(), 1u);
  const auto check = [&] {
    const ModelWeights weights(directory.path());
    EXPECT_EQ(weights.names(), (std::vector<std::string>{"layer.0", "layer.1", "layer.2", "layer.3", "layer.4"}));
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(weights.tensor("layer." + std::to_string(i)).to_vector<float>(), std::vector<float>(10, i));
    }
    EXPECT_FALSE(weights.has("layer.5"));
    EXPECT_THROW(weights.tensor("layer.5"), Error);
    return weights.files().size();
  };
  EXPECT_EQ(check(), 1u);
  write_model_weights(directory.path(), tensors, {.max_shard_bytes = 80});
  EXPECT_EQ(check(), 3u);
  EXPECT_FALSE(std::filesystem::exists(directory / "model.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(directory / "model-00003-of-00003.safetensors"));
  const json index = json::parse(directory.read("model.safetensors.index.json"));
  EXPECT_EQ(index.at("metadata").at("total_size"), 200);
  EXPECT_EQ(index.at("weight_map").at("layer.2"), "model-00002-of-00003.safetensors");
  // A tensor larger than the limit gets a shard of its own; going back to one file removes the index.
  write_model_weights(directory.path(), tensors, {.max_shard_bytes = 1});
  EXPECT_EQ(check(), 5u);
  write_model_weights(directory.path(), tensors);
  EXPECT_EQ(check(), 1u);
  EXPECT_EQ(ModelWeights(directory / "model.safetensors").names().size(), 5u);
}

TEST(ModelWeights, RefusesBadDirectories) {
  TemporaryDirectory directory;
  expect_error(directory / "none", "No such file or directory");
  expect_error(directory.path(), "no weights: neither model.safetensors nor model.safetensors.index.json is there");
  directory.write("pytorch_model.bin", "x");
  expect_error(directory.path(), "pickle files can run code");
  EXPECT_NE(open_error(directory / "pytorch_model.bin").hint().find("safetensors"), std::string::npos);

  write_model_weights(directory.path(), five_tensors(), {.max_shard_bytes = 80});
  const json good = json::parse(directory.read("model.safetensors.index.json"));
  const auto with = [&](const std::string& tensor, const json& shard) {
    json index = good;
    index["weight_map"][tensor] = shard;
    directory.write("model.safetensors.index.json", index.dump());
    return directory.path();
  };
  expect_error(with("layer.0", "../model-00001-of-00003.safetensors"), "is not a plain name");
  expect_error(with("layer.0", "/etc/passwd"), "is not a plain name");
  expect_error(with("layer.0", ".."), "is not a plain name");
  expect_error(with("layer.0", ""), "is not a plain name");
  expect_error(with("layer.0", 3), "its shard is not a name");
  expect_error(with("layer.0", "pytorch_model.bin"), "pickle");
  expect_error(with("layer.0", "gone.safetensors"), "shard \"gone.safetensors\" is missing");
  expect_error(with("layer.0", "model-00002-of-00003.safetensors"),
               "tensor \"layer.0\": listed in shard \"model-00002-of-00003.safetensors\" but held by "
               "\"model-00001-of-00003.safetensors\"");
  expect_error(with("extra", "model-00002-of-00003.safetensors"), "tensor \"extra\": shard");
  directory.write("model.safetensors.index.json", "{\"weight_map\": {}}");
  expect_error(directory.path(), "it lists no tensor");
  directory.write("model.safetensors.index.json", "{}");
  expect_error(directory.path(), "missing key \"weight_map\"");
  directory.write("model.safetensors.index.json", "{");
  expect_error(directory.path(), "cannot parse JSON");
}

/// Bytes of mapped files that this process holds in memory (Linux: RssFile).
int64_t mapped_bytes_in_memory() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word != "RssFile:") continue;
    int64_t kib = 0;
    status >> kib;
    return kib << 10;
  }
  return -1;
}

TEST(ModelWeights, AWalkInPartsNeedsLittleMemory) {
  TemporaryDirectory directory;
  constexpr int64_t kRows = 3000, kCols = 4099;  // 47 MiB, rows across pages
  std::vector<float> values(kRows * kCols);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 1000003);
  write_model_weights(directory.path(), {{"large", Tensor::from_vector(values, {kRows, kCols})},
                                         {"scalar", Tensor::full({}, 2.5)},
                                         {"empty", Tensor::zeros({0, 3}, DType::f32)}});
  const ModelWeights weights(directory.path());
  const int64_t before = mapped_bytes_in_memory();
  ASSERT_GT(before, 0);
  int64_t next = 0, most = 0;
  bool equal = true;
  weights.for_each_part("large", [&](const Tensor& part, int64_t row) {
    EXPECT_EQ(row, next);
    const std::vector<float> found = part.to_vector<float>();
    equal = equal && std::equal(found.begin(), found.end(), values.begin() + row * kCols);
    next += part.size(0);
    most = std::max(most, mapped_bytes_in_memory() - before);
  });
  EXPECT_TRUE(equal);
  EXPECT_EQ(next, kRows);
  EXPECT_LT(most, int64_t{12} << 20);
  EXPECT_EQ(weights.tensor("large").to_vector<float>(), values) << "pages that were given back are read again";
  int calls = 0;
  weights.for_each_part("scalar", [&](const Tensor& part, int64_t row) {
    EXPECT_EQ(row, 0);
    EXPECT_EQ(part.to_vector<float>(), std::vector<float>{2.5f});
    ++calls;
  });
  weights.for_each_part("empty", [&](const Tensor&, int64_t) { ++calls; });
  EXPECT_EQ(calls, 1);
  EXPECT_THROW(weights.for_each_part("other", [](const Tensor&, int64_t) {}), Error);
}

}  // namespace
}  // namespace ondol
