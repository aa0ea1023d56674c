// Models against what transformers computed in float64 (hf_tiny): hidden states, logits, loss, gradients.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>

#include <ondol/io/safetensors.h>
#include <ondol/models/model.h>

#include <gtest/gtest.h>

#include "base/json_reader.h"
#include "models/family.h"
#include "support/hf_tiny.h"
#include "support/temporary_directory.h"
#include "support/test_data.h"
#include "support/test_device.h"

namespace ondol {
namespace {

namespace fs = std::filesystem;

using testing::test_device;

/// The tensors of a file as the model takes them, on the host.
ModelInput load_input(const Model& model, const SafetensorsFile& file) {
  ModelInput input;
  const std::vector<InputSpec> specs = model.inputs();
  for (const SafetensorsEntry& entry : file.entries()) {
    const Tensor tensor = file.tensor(entry.name);
    const InputSpec* spec = find_spec(specs, entry.name, tensor);
    if (spec == nullptr) throw Error(entry.name + " is no input");
    *input.find(entry.name) = tensor.to(spec->dtype);
  }
  return input;
}

/// Largest difference over the positions that count; a tensor that does not run over them is compared whole.
double difference(const Tensor& tensor, const Tensor& expected, const Tensor& mask) {
  EXPECT_EQ(tensor.shape(), expected.shape());
  const std::vector<float> a = tensor.to_vector<float>(), b = expected.to_vector<float>();
  if (a.size() != b.size()) return INFINITY;
  std::vector<uint8_t> counts(1, 1);
  const bool by_position =
      mask.defined() && expected.ndim() >= 2 && expected.size(0) == mask.size(0) && expected.size(1) == mask.size(1);
  if (by_position) counts = mask.to_vector<uint8_t>();
  const size_t width = a.size() / counts.size();
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (counts[i / width] != 0) worst = std::max(worst, static_cast<double>(std::fabs(a[i] - b[i])));
  }
  return worst;
}

std::unique_ptr<Model> load_reference(const std::string& name) {
  return load_model(test::data_path("hf_tiny/" + name), {.device = to_string(test_device()), .dtype = DType::f32});
}

/// Outputs, hidden states and loss of a model on the inputs of a reference directory.
std::vector<std::pair<std::string, Tensor>> outputs_of(Model& model, const ModelInput& prepared) {
  std::vector<std::pair<std::string, Tensor>> outputs;
  ForwardContext context;
  context.hidden_states = &outputs;
  const ModelInput input = prepared.to(model.device());
  const NamedOutputs named = model.forward(input, context);
  for (const auto& [name, value] : named) outputs.emplace_back(name, value.value());
  return outputs;
}

class HfTiny : public ::testing::TestWithParam<std::string> {};

TEST_P(HfTiny, ForwardAndGradients) {
  const std::string directory = "hf_tiny/" + GetParam();
  ONDOL_REQUIRE_DATA(directory);
  const auto model = load_reference(GetParam());
  const SafetensorsFile expected(test::data_path(directory + "/outputs.safetensors"));
  const ModelInput input =
      model->prepare(load_input(*model, SafetensorsFile(test::data_path(directory + "/inputs.safetensors"))));

  size_t found = 0;
  for (const auto& [name, tensor] : outputs_of(*model, input)) {
    ASSERT_TRUE(expected.has(name)) << name;
    const bool of_decoder = input.decoder_attention_mask.defined() && !name.starts_with("encoder_");
    const Tensor& mask = of_decoder ? input.decoder_attention_mask : input.attention_mask;
    EXPECT_LT(difference(tensor, expected.tensor(name), mask), 2e-5) << name;
    ++found;
  }
  EXPECT_EQ(found + expected.has("loss"), expected.entries().size());
  if (!expected.has("loss")) return;

  const SafetensorsFile gradients(test::data_path(directory + "/grads.safetensors"));
  model->parameters().enable_gradients();
  Tape tape;
  const Variable loss =
      total_loss(model->losses(input.to(model->device()), mean_scales(model->count_targets(input)), {}));
  EXPECT_NEAR(loss.value().item(), expected.tensor("loss").item(), 2e-5);
  tape.backward(loss);
  model->parameters().finish_gradients();
  size_t compared = 0;
  for (const WeightSlot& slot : model->weights()) {
    if (!gradients.has(slot.name)) continue;
    const std::vector<float> wanted = gradients.tensor(slot.name).to_vector<float>();
    const std::vector<float> actual = slot.view(slot.parameter.grad()).to_vector<float>();
    ASSERT_EQ(actual.size(), wanted.size()) << slot.name;
    float largest = 0, worst = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      largest = std::max(largest, std::fabs(wanted[i]));
      worst = std::max(worst, std::fabs(wanted[i] - actual[i]));
    }
    EXPECT_LT(worst, 1e-4f * std::max(largest, 1e-3f)) << slot.name;
    ++compared;
  }
  EXPECT_EQ(compared, gradients.entries().size());
}

/// The same values, to the last bit, from what was written.
TEST_P(HfTiny, SavedAndLoadedIsTheSameModel) {
  ONDOL_REQUIRE_DATA("hf_tiny/" + GetParam());
  const auto model = load_reference(GetParam());
  const testing::TemporaryDirectory directory;
  save_model(*model, directory.path());
  const auto again = load_model(directory.path(), {.device = to_string(test_device())});
  EXPECT_EQ(again->info().architecture, model->info().architecture);
  ASSERT_EQ(again->weights().size(), model->weights().size());
  EXPECT_EQ(again->parameters().flat_values().to_vector<float>(), model->parameters().flat_values().to_vector<float>());
  const SafetensorsFile inputs(test::data_path("hf_tiny/" + GetParam() + "/inputs.safetensors"));
  const auto a = outputs_of(*model, model->prepare(load_input(*model, inputs)));
  const auto b = outputs_of(*again, again->prepare(load_input(*again, inputs)));
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].second.to_vector<float>(), b[i].second.to_vector<float>());

  // The names and shapes in the file are those that transformers wrote.
  const SafetensorsFile written(directory / "model.safetensors");
  const SafetensorsFile known(test::data_path("hf_tiny/" + GetParam() + "/model.safetensors"));
  EXPECT_EQ(written.entries().size(), known.entries().size());
  for (const SafetensorsEntry& entry : known.entries()) {
    ASSERT_TRUE(written.has(entry.name)) << entry.name;
    EXPECT_EQ(written.find(entry.name)->shape, entry.shape) << entry.name;
  }
}

TEST_P(HfTiny, FourXSpellingIsTheSameModel) {
  const std::string directory = "hf_tiny/" + GetParam();
  if (test::has_data(directory) && !test::has_data(directory + "/config_4x.json")) return;  // spelt alike in both
  ONDOL_REQUIRE_DATA(directory);
  const auto a = create_model(test::data_path(directory + "/config.json"), DType::f32, test_device(), 1);
  const auto b = create_model(test::data_path(directory + "/config_4x.json"), DType::f32, test_device(), 1);
  const SafetensorsFile inputs(test::data_path(directory + "/inputs.safetensors"));
  const auto of_a = outputs_of(*a, a->prepare(load_input(*a, inputs)));
  const auto of_b = outputs_of(*b, b->prepare(load_input(*b, inputs)));
  ASSERT_EQ(of_a.size(), of_b.size());
  for (size_t i = 0; i < of_a.size(); ++i) {
    EXPECT_EQ(of_a[i].second.to_vector<float>(), of_b[i].second.to_vector<float>()) << of_a[i].first;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, HfTiny, ::testing::ValuesIn(testing::all_references()),
                         [](const auto& parameter) { return testing::reference_test_name(parameter.param); });

/// Every directory of hf_tiny is checked above or of a model type that is not supported yet.
TEST(HfTinyCoverage, EverySupportedDirectoryIsChecked) {
  ONDOL_REQUIRE_DATA("hf_tiny");
  const std::vector<std::string> checked = testing::all_references();
  size_t found = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(test::data_path("hf_tiny"))) {
    if (!fs::exists(entry.path() / "config.json")) continue;
    const std::string name = entry.path().filename().string();
    const Json config = load_json((entry.path() / "config.json").string());
    const bool supported = is_supported_model_type(config.at("model_type").get<std::string>());
    const bool listed = std::find(checked.begin(), checked.end(), name) != checked.end();
    std::cout << name << ": " << (listed ? "checked" : "not supported yet") << '\n';
    EXPECT_EQ(supported, listed) << name << (supported ? " is supported but not checked" : " is not supported");
    found += listed;
  }
  EXPECT_EQ(found, checked.size());
}

class HfTinyCausal : public ::testing::TestWithParam<std::string> {};

TEST_P(HfTinyCausal, CacheGivesTheSameHiddenStates) {
  ONDOL_REQUIRE_DATA("hf_tiny/" + GetParam());
  const auto model = load_reference(GetParam());
  const SafetensorsFile inputs(test::data_path("hf_tiny/" + GetParam() + "/inputs.safetensors"));
  const Tensor ids = load_input(*model, inputs).to(test_device()).input_ids;
  const Tensor whole = model->hidden({.input_ids = ids}, {}).value();

  // Rows of different lengths: 7, 5 and 1 tokens first, then one at a time.
  KvCache cache = model->make_cache(ids.size(0), ids.size(1));
  std::vector<int32_t> starts = {7, 5, 1};
  cache.begin_step(starts);
  ForwardContext context;
  context.cache = &cache;
  model->hidden({.input_ids = ids.narrow(1, 0, 7).contiguous()}, context);
  cache.end_step();
  for (int step = 0; step < 4; ++step) {
    std::vector<int32_t> next;
    for (size_t b = 0; b < starts.size(); ++b) {
      next.push_back(static_cast<int32_t>(ids.select(0, static_cast<int64_t>(b)).select(0, starts[b] + step).item()));
    }
    cache.begin_step({1, 1, 1});
    const Tensor h = model->hidden({.input_ids = Tensor::from_vector(next, {3, 1}, test_device())}, context).value();
    cache.end_step();
    for (size_t b = 0; b < starts.size(); ++b) {
      const int64_t row = static_cast<int64_t>(b);
      const std::vector<float> expected = whole.select(0, row).select(0, starts[b] + step).to_vector<float>();
      const std::vector<float> actual = h.select(0, row).select(0, 0).to_vector<float>();
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, HfTinyCausal, ::testing::ValuesIn(testing::kCausalReferences),
                         [](const auto& parameter) { return testing::reference_test_name(parameter.param); });

class HfTinyEncoderDecoder : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, HfTinyEncoderDecoder, ::testing::ValuesIn(testing::kEncoderDecoderReferences),
                         [](const auto& parameter) { return testing::reference_test_name(parameter.param); });

TEST_P(HfTinyEncoderDecoder, DecoderInputsFollowFromLabels) {
  ONDOL_REQUIRE_DATA("hf_tiny/" + GetParam());
  const auto model = load_reference(GetParam());
  ModelInput input =
      load_input(*model, SafetensorsFile(test::data_path("hf_tiny/" + GetParam() + "/inputs.safetensors")));
  const std::vector<int32_t> expected = input.decoder_input_ids.to_vector<int32_t>();
  input.decoder_input_ids = Tensor();
  EXPECT_EQ(model->prepare(input).decoder_input_ids.to_vector<int32_t>(), expected);
  input.labels = Tensor();
  EXPECT_THROW(model->prepare(input), UsageError);
}

TEST_P(HfTinyEncoderDecoder, CacheGivesTheSameHiddenStates) {
  ONDOL_REQUIRE_DATA("hf_tiny/" + GetParam());
  const auto model = load_reference(GetParam());
  const SafetensorsFile file(test::data_path("hf_tiny/" + GetParam() + "/inputs.safetensors"));
  ModelInput input = load_input(*model, file);
  std::vector<int32_t> lengths(3, 0);
  const std::vector<uint8_t> mask = input.attention_mask.to_vector<uint8_t>();
  for (size_t i = 0; i < mask.size(); ++i) lengths[i * 3 / mask.size()] += mask[i];
  input.decoder_attention_mask = Tensor();
  input = input.to(test_device());
  const Tensor ids = input.decoder_input_ids, whole = model->hidden(input, {}).value();

  // Rows of different lengths: 5, 3 and 1 tokens first, then one at a time.
  KvCache cache = model->make_cache(3, ids.size(1));
  model->encode(input.input_ids, lengths, cache);
  ForwardContext context;
  context.cache = &cache;
  std::vector<int32_t> read(3, 0);
  const auto step = [&](const std::vector<int32_t>& counts) {
    const int32_t longest = *std::max_element(counts.begin(), counts.end());
    std::vector<int32_t> next;
    for (size_t b = 0; b < 3; ++b) {
      for (int32_t t = 0; t < longest; ++t) {
        const int64_t at = t < counts[b] ? read[b] + t : 0;
        next.push_back(static_cast<int32_t>(ids.select(0, static_cast<int64_t>(b)).select(0, at).item()));
      }
    }
    cache.begin_step(counts);
    const Tensor h =
        model->hidden({.decoder_input_ids = Tensor::from_vector(next, {3, longest}, test_device())}, context).value();
    cache.end_step();
    for (size_t b = 0; b < 3; ++b) {
      const auto row = static_cast<int64_t>(b);
      for (int32_t t = 0; t < counts[b]; ++t) {
        const std::vector<float> expected = whole.select(0, row).select(0, read[b] + t).to_vector<float>();
        const std::vector<float> actual = h.select(0, row).select(0, t).to_vector<float>();
        for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-5);
      }
      read[b] += counts[b];
    }
  };
  step({5, 3, 1});
  for (int i = 0; i < 4; ++i) step({1, 1, 1});
}

}  // namespace
}  // namespace ondol
