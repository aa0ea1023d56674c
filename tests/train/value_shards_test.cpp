// Values that are shared out among ranks: what is there when, and that the same is computed.
#include <gtest/gtest.h>

#include <ondol/autograd/functions.h>

#include "models/input.h"
#include "support/error_of.h"
#include "support/ranks.h"
#include "tensor/give_back.h"
#include "train/value_shards.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::run_ranks;

constexpr int64_t kSize = 256, kLayers = 4;
constexpr size_t kMatrixBytes = kSize * kSize * sizeof(float);

/// A table, layers of a matrix and a vector each, and a matrix at the end.
struct Stack {
  explicit Stack(bool frozen = false) {
    table = store.add("table", {kSize, kSize}, Init::normal(0.05f));
    for (int64_t l = 0; l < kLayers; ++l) {
      layers.push_back(store.begin_layer());
      weights.push_back(store.add(concat("layer.", l, ".weight"), {kSize, kSize}, Init::normal(0.05f)));
      biases.push_back(store.add(concat("layer.", l, ".bias"), {kSize}, Init::normal(0.05f)));
      store.end_layer();
    }
    head = store.add("head", {3, kSize}, Init::normal(0.05f));  // does not divide
    if (frozen) store.set_trainable([](const ParameterStore::Entry& entry) { return entry.name != "layer.0.weight"; });
    store.materialize(DType::f32, {});
    store.initialize(5);
    store.enable_gradients();
  }

  /// Calls `within` in every layer's forward; the gradients of all that is trained.
  std::vector<float> gradients(
      ForwardContext context, const std::function<void(size_t)>& within = [](size_t) {}) {
    store.clear_gradients();
    Tape tape;
    Variable h = functions::embedding(table, Tensor::from_vector(std::vector<int32_t>{3, 7, 200, 7}, {1, 4}));
    for (size_t l = 0; l < layers.size(); ++l) {
      h = run_as_layer(context, layers[l], [=, this, &within] {
        within(l);
        return functions::linear(h, {.weight = weights[l], .bias = biases[l], .activation = Activation::relu});
      });
    }
    h = functions::linear(h, {.weight = head});
    tape.backward(h, Tensor::full(h.shape(), 1.0));
    store.finish_gradients();
    return store.flat_gradients().to_vector<float>();
  }

  ParameterStore store;
  Variable table, head;
  std::vector<Variable> weights, biases;
  std::vector<LayerParameters> layers;
};

std::shared_ptr<const Sharding> sharding_of(const Stack& stack, Communicator* world) {
  return std::make_shared<const Sharding>(3, stack.store, Ranks(world));
}

class ValueShardsOn : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ValueShardsOn, ::testing::Values(2, 3, 4));

TEST_P(ValueShardsOn, LayersHaveTheirValuesWhileTheyWorkAndNothingElseHas) {
  const int ranks = GetParam();
  const auto errors = run_ranks(ranks, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
    const auto world = make_communicator(info, meeting);
    Stack stack;
    const std::vector<float> expected = stack.gradients({}), values = stack.store.flat_values().to_vector<float>();
    ValueShards shards(stack.store, sharding_of(stack, world.get()));
    shards.release();
    ForwardContext context;
    context.layers = &shards;
    const size_t own = kMatrixBytes / static_cast<size_t>(ranks) + 8192;
    const auto has_memory_for = [&](const Variable& weight, size_t bytes) {
      for (const ParameterStore::Entry& entry : stack.store.entries()) {
        if (!entry.variable.same_as(weight)) continue;
        const size_t resident = resident_bytes(entry.slice(stack.store.flat_values()));
        ONDOL_CHECK(resident <= bytes, entry.name, " has ", resident, " bytes of memory, more than ", bytes);
      }
    };
    for (const bool recompute : {false, true, false}) {
      context.recompute_layers = recompute;
      const ValueShards::Use use(&shards);
      const auto within = [&](size_t layer) {
        for (size_t other = 0; other < stack.weights.size(); ++other) {
          const bool near = other <= layer + 1 && layer <= other + 1;  // the next one is on its way
          if (!near) has_memory_for(stack.weights[other], own);
          if (!near) ONDOL_CHECK(stack.weights[other].withheld(), "layer ", other, " in layer ", layer);
        }
      };
      ONDOL_CHECK(stack.gradients(context, within) == expected, "other gradients");
    }
    for (const Variable& weight : stack.weights) has_memory_for(weight, own);
    has_memory_for(stack.table, own);
    const std::string error = error_of([&] { stack.gradients(context); });
    ONDOL_CHECK(error == "the values of parameter \"table\" are used where this process does not hold them", error);
    const ValueShards::Whole whole(&shards);
    ONDOL_CHECK(stack.store.flat_values().to_vector<float>() == values, "other values");
    ONDOL_CHECK(stack.gradients({}) == expected, "other gradients of the whole model");
    ONDOL_CHECK(stack.gradients(context) == expected, "hooks take something away from a whole model");
  });
  EXPECT_EQ(errors, std::vector<std::string>(static_cast<size_t>(ranks)));
}

TEST(ValueShards, WhatEachRankChangesIsGathered) {
  const auto errors = run_ranks(2, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
    const auto world = make_communicator(info, meeting);
    Stack stack, plain;
    const auto sharding = sharding_of(stack, world.get());
    ValueShards shards(stack.store, sharding);
    ForwardContext context;
    context.layers = &shards;
    for (int step = 0; step < 3; ++step) {
      shards.release();
      for (const ShardPart& part : sharding->layout().parts())
        part.in_flat(stack.store.flat_values()).fill(0.01 * (step + 1));
      plain.store.trainable_values().fill(0.01 * (step + 1));
      const ValueShards::Use use(&shards);
      ONDOL_CHECK(stack.gradients(context) == plain.gradients({}), "other gradients in step ", step);
    }
  });
  EXPECT_EQ(errors, std::vector<std::string>(2));
}

TEST(ValueShards, WhatIsNotTrainedStays) {
  const auto errors = run_ranks(2, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
    const auto world = make_communicator(info, meeting);
    Stack stack(/*frozen=*/true);
    const std::vector<float> expected = stack.gradients({});
    const auto sharding = sharding_of(stack, world.get());
    ValueShards shards(stack.store, sharding);
    shards.release();
    ONDOL_CHECK(!stack.weights[0].withheld() && stack.weights[1].withheld(), "withheld");
    ForwardContext context;
    context.layers = &shards;
    const ValueShards::Use use(&shards);
    ONDOL_CHECK(stack.gradients(context) == expected, "other gradients");
  });
  EXPECT_EQ(errors, std::vector<std::string>(2));
}

TEST(ValueShards, AnErrorWithinAStepIsPassedOn) {
  const auto errors = run_ranks(2, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
    const auto world = make_communicator(info, meeting);
    Stack stack;
    const auto sharding = sharding_of(stack, world.get());
    ValueShards shards(stack.store, sharding);
    shards.release();
    ForwardContext context;
    context.layers = &shards;
    const std::string error = error_of([&] {
      const ValueShards::Use use(&shards);
      stack.gradients(context, [](size_t layer) { ONDOL_CHECK(layer < 2, "out of luck"); });
    });
    ONDOL_CHECK(error == "out of luck", error);
  });
  EXPECT_EQ(errors, std::vector<std::string>(2));
}

}  // namespace
}  // namespace ondol
