// Models against what transformers computed in float64 (hf_tiny): hidden states, logits, loss, gradients.
#include <cmath>

#include <ondol/autograd/functions.h>
#include <ondol/io/safetensors.h>
#include <ondol/models/model.h>

#include <gtest/gtest.h>

#include "support/test_data.h"
#include "support/test_device.h"

namespace ondol {
namespace {

struct Batch {
  ModelInput input;
  std::vector<uint8_t> mask;  // 1 where a position counts
  Tensor shifted_labels;      // i32, the target of each position
  int64_t targets = 0;
};

Batch load_batch(const SafetensorsFile& file) {
  Batch batch;
  batch.input.input_ids = file.tensor("input_ids").to(DType::i32).to(testing::test_device());
  batch.input.attention_mask = file.tensor("attention_mask").to(DType::u8).to(testing::test_device());
  batch.mask = batch.input.attention_mask.to_vector<uint8_t>();
  const int64_t rows = batch.input.input_ids.size(0), length = batch.input.input_ids.size(1);
  std::vector<int32_t> labels = file.tensor("labels").to_vector<int32_t>();
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t t = 0; t < length; ++t) {
      int32_t& label = labels[static_cast<size_t>(r * length + t)];
      label = t + 1 < length ? labels[static_cast<size_t>(r * length + t + 1)] : -100;
      batch.targets += label != -100;
    }
  }
  batch.shifted_labels = Tensor::from_vector(labels, {rows, length}, testing::test_device());
  return batch;
}

/// Largest difference over the positions that count; `tensor` is (B, T, n).
double difference(const Tensor& tensor, const Tensor& expected, const std::vector<uint8_t>& mask) {
  EXPECT_EQ(tensor.shape(), expected.shape());
  const std::vector<float> a = tensor.to_vector<float>(), b = expected.to_vector<float>();
  const size_t width = a.size() / mask.size();
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (mask[i / width] != 0) worst = std::max(worst, static_cast<double>(std::fabs(a[i] - b[i])));
  }
  return worst;
}

class HfTiny : public ::testing::TestWithParam<const char*> {};

TEST_P(HfTiny, ForwardAndGradients) {
  const std::string directory = std::string("hf_tiny/") + GetParam();
  ONDOL_REQUIRE_DATA(directory);
  const auto model =
      load_model(test::data_path(directory), {.device = to_string(testing::test_device()), .dtype = DType::f32});
  const SafetensorsFile inputs(test::data_path(directory + "/inputs.safetensors"));
  const SafetensorsFile outputs(test::data_path(directory + "/outputs.safetensors"));
  const SafetensorsFile gradients(test::data_path(directory + "/grads.safetensors"));
  const Batch batch = load_batch(inputs);
  model->parameters().enable_gradients();

  std::vector<Tensor> states;
  ForwardContext context;
  context.hidden_states = &states;
  Tape tape;
  const Variable hidden = model->hidden(batch.input, context);
  const Variable loss = functions::linear_cross_entropy(
      hidden, batch.shifted_labels,
      {.weight = model->output_weight(), .scale = 1.0f / static_cast<float>(batch.targets)});
  EXPECT_NEAR(loss.value().item(), outputs.tensor("loss").item(), 2e-5);
  EXPECT_LT(difference(hidden.value(), outputs.tensor("last_hidden_state"), batch.mask), 2e-5);
  EXPECT_LT(difference(model->logits(hidden.value()), outputs.tensor("logits"), batch.mask), 2e-5);
  ASSERT_EQ(states.size(), static_cast<size_t>(model->info().num_layers + 1));
  for (size_t i = 0; i < states.size(); ++i) {
    EXPECT_LT(difference(states[i], outputs.tensor(concat("hidden_states.", i)), batch.mask), 2e-5) << i;
  }

  tape.backward(loss);
  size_t compared = 0;
  for (const WeightSlot& slot : model->weights()) {
    if (!gradients.has(slot.name)) continue;
    const std::vector<float> expected = gradients.tensor(slot.name).to_vector<float>();
    const std::vector<float> actual = slot.view(slot.parameter.grad()).to_vector<float>();
    ASSERT_EQ(actual.size(), expected.size()) << slot.name;
    float largest = 0, worst = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      largest = std::max(largest, std::fabs(expected[i]));
      worst = std::max(worst, std::fabs(expected[i] - actual[i]));
    }
    EXPECT_LT(worst, 1e-4f * std::max(largest, 1e-3f)) << slot.name;
    ++compared;
  }
  EXPECT_EQ(compared, gradients.entries().size());
}

TEST_P(HfTiny, FourXSpellingIsTheSameModel) {
  const std::string directory = std::string("hf_tiny/") + GetParam();
  ONDOL_REQUIRE_DATA(directory + "/config_4x.json");
  const auto a = create_model(test::data_path(directory + "/config.json"), DType::f32, testing::test_device(), 1);
  const auto b = create_model(test::data_path(directory + "/config_4x.json"), DType::f32, testing::test_device(), 1);
  const SafetensorsFile inputs(test::data_path(directory + "/inputs.safetensors"));
  const Batch batch = load_batch(inputs);
  EXPECT_EQ(a->hidden(batch.input, {}).value().to_vector<float>(),
            b->hidden(batch.input, {}).value().to_vector<float>());
}

TEST_P(HfTiny, CacheGivesTheSameHiddenStates) {
  const std::string directory = std::string("hf_tiny/") + GetParam();
  ONDOL_REQUIRE_DATA(directory);
  const auto model =
      load_model(test::data_path(directory), {.device = to_string(testing::test_device()), .dtype = DType::f32});
  const Batch batch = load_batch(SafetensorsFile(test::data_path(directory + "/inputs.safetensors")));
  const Tensor& ids = batch.input.input_ids;
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
    const Tensor h =
        model->hidden({.input_ids = Tensor::from_vector(next, {3, 1}, testing::test_device())}, context).value();
    cache.end_step();
    for (size_t b = 0; b < starts.size(); ++b) {
      const int64_t row = static_cast<int64_t>(b);
      const std::vector<float> expected = whole.select(0, row).select(0, starts[b] + step).to_vector<float>();
      const std::vector<float> actual = h.select(0, row).select(0, 0).to_vector<float>();
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, HfTiny, ::testing::Values("gpt2", "llama", "llama-gqa", "llama3-rope"),
                         [](const auto& parameter) {
                           std::string name = parameter.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace ondol
