// What a layer states as its own parameters: nothing outside of the layer uses them, and the hooks come in order.
#include <gtest/gtest.h>

#include <ondol/io/safetensors.h>
#include <ondol/models/model.h>

#include "support/error_of.h"
#include "support/hf_tiny.h"
#include "support/test_data.h"
#include "support/test_device.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::test_device;

/// Lets nobody but the layer at work see its parameters, and notes what is called.
class OneLayerAtATime final : public LayerHooks {
 public:
  explicit OneLayerAtATime(const ParameterStore& store) : store_(store) {
    for (const LayerParameters& layer : store_.layers()) withhold(layer, true);
  }
  ~OneLayerAtATime() override {
    for (const LayerParameters& layer : store_.layers()) withhold(layer, false);
  }
  void before_forward(const LayerParameters& layer) override { note("F", layer, false); }
  void after_forward(const LayerParameters& layer) override { note("f", layer, true); }
  void before_backward(const LayerParameters& layer) override { note("B", layer, false); }
  void after_backward(const LayerParameters& layer) override { note("b", layer, true); }

  std::string calls;

 private:
  void note(const char* call, const LayerParameters& layer, bool withheld) {
    const auto& layers = store_.layers();
    const auto found = std::find(layers.begin(), layers.end(), layer);
    ASSERT_NE(found, layers.end());
    calls += concat(call, found - layers.begin(), " ");
    withhold(layer, withheld);
  }
  void withhold(const LayerParameters& layer, bool withheld) const {
    for (const ParameterStore::Entry& entry : store_.entries()) {
      for (const Variable& parameter : *layer) {
        if (entry.variable.same_as(parameter)) parameter.withhold(withheld ? &entry.name : nullptr);
      }
    }
  }

  const ParameterStore& store_;
};

ModelInput load_input(const Model& model, const std::string& directory) {
  const SafetensorsFile file(test::data_path(directory + "/inputs.safetensors"));
  ModelInput input;
  const std::vector<InputSpec> specs = model.inputs();
  for (const SafetensorsEntry& entry : file.entries()) {
    const Tensor tensor = file.tensor(entry.name);
    const InputSpec* spec = find_spec(specs, entry.name, tensor);
    if (spec != nullptr) *input.find(entry.name) = tensor.to(spec->dtype);
  }
  return model.prepare(input);
}

std::vector<float> gradients_of(Model& model, const ModelInput& input, const ForwardContext& context) {
  ParameterStore& store = model.parameters();
  store.enable_gradients();
  store.clear_gradients();
  Tape tape;
  tape.backward(total_loss(model.losses(input.to(model.device()), mean_scales(model.count_targets(input)), context)));
  store.finish_gradients();
  return store.flat_gradients().to_vector<float>();
}

class LayerHooksOf : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, LayerHooksOf, ::testing::ValuesIn(testing::trained_references()),
                         [](const auto& parameter) { return testing::reference_test_name(parameter.param); });

TEST_P(LayerHooksOf, NothingElseUsesTheParametersOfALayer) {
  const std::string directory = "hf_tiny/" + GetParam();
  ONDOL_REQUIRE_DATA(directory);
  const auto model = load_model(test::data_path(directory), {.device = to_string(test_device()), .dtype = DType::f32});
  const ModelInput input = load_input(*model, directory);
  const std::vector<float> expected = gradients_of(*model, input, {});
  const size_t layers = model->parameters().layers().size();
  ASSERT_GE(layers, static_cast<size_t>(model->info().num_layers));

  size_t matrices_of_layers = 0, vectors_of_layers = 0;
  for (const LayerParameters& layer : model->parameters().layers()) {
    for (const Variable& parameter : *layer) ++(parameter.shape().ndim() > 1 ? matrices_of_layers : vectors_of_layers);
  }
  EXPECT_GE(matrices_of_layers, 4 * layers);
  EXPECT_GE(vectors_of_layers, 2 * layers);

  std::string forward, backward;
  for (size_t i = 0; i < layers; ++i) {
    forward += concat("F", i, " f", i, " ");
    backward = concat("B", i, " b", i, " ") + backward;
  }
  for (const bool recompute : {false, true}) {
    OneLayerAtATime hooks(model->parameters());
    ForwardContext context;
    context.layers = &hooks;
    context.recompute_layers = recompute;
    EXPECT_EQ(gradients_of(*model, input, context), expected);
    EXPECT_EQ(hooks.calls, forward + backward);
    if (!recompute) {
      hooks.calls.clear();
      model->losses(input.to(model->device()), mean_scales(model->count_targets(input)), context);
      EXPECT_EQ(hooks.calls, forward);
    }
    // Whoever uses them without asking hears of it.
    const std::string error = error_of([&] { model->forward(input.to(model->device()), {}); });
    EXPECT_NE(error.find("are used where this process does not hold them"), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace ondol
