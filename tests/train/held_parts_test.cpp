// The parts of all ranks together are the tensors of the files.
#include <gtest/gtest.h>

#include <ondol/models/tensor_parallel.h>

#include "support/temporary_directory.h"
#include "train/held_parts.h"

namespace ondol {
namespace {

/// Writes the values of a part to their places, and counts.
void place(const TensorPart& part, std::vector<float>& tensor, std::vector<int>& counts) {
  const int64_t runs = part.values.size(0), run = part.run(), stride = part.stride == 0 ? run : part.stride;
  const std::vector<float> values = part.values.to_vector<float>();
  for (int64_t i = 0; i < runs; ++i) {
    for (int64_t j = 0; j < run; ++j) {
      const auto to = static_cast<size_t>(part.begin + i * stride + j);
      ASSERT_LT(to, tensor.size());
      tensor[to] = values[static_cast<size_t>(i * run + j)];
      ++counts[to];
    }
  }
}

TEST(HeldParts, OfAllRanksAreTheTensor) {
  ParameterStore store;
  const Variable matrix = store.add("matrix", {70, 37}, Init::normal(1.0f));
  const Variable fused = store.add("fused", {96, 40}, Init::normal(1.0f));
  const Variable cube = store.add("cube", {5, 30, 20}, Init::normal(1.0f));
  const Variable vector = store.add("vector", {50}, Init::normal(1.0f));
  const Variable frozen = store.add("frozen", {40, 40}, Init::normal(1.0f));
  const Variable buffer = store.add_buffer("buffer", {1, 7}, Init::normal(1.0f));
  store.set_trainable([](const ParameterStore::Entry& entry) { return entry.name != "frozen"; });
  store.materialize(DType::f32, {});
  store.initialize(3);
  const std::vector<WeightSlot> slots = {
      {"matrix", matrix, 0, -1, false, {70, 37}}, {"transposed", matrix, 0, -1, true, {37, 70}},
      {"q", fused, 0, 32, false, {32, 40}},       {"k", fused, 32, 16, false, {16, 40}},
      {"v", fused, 48, 48, true, {40, 48}},       {"cube", cube, 0, -1, false, {5, 30, 20}},
      {"vector", vector, 0, -1, false, {50}},     {"bias.k", vector, 20, 10, false, {10}},
      {"frozen", frozen, 0, -1, true, {40, 40}},  {"buffer", buffer, 0, -1, false, {1, 7}},
      {"one row", matrix, 69, 1, true, {37, 1}},
  };
  for (const int ranks : {1, 2, 3, 4}) {
    size_t shared = 0;
    for (const WeightSlot& slot : slots) {
      const auto size = static_cast<size_t>(slot.shape.numel());
      std::vector<float> tensor(size);
      std::vector<int> counts(size);
      for (int rank = 0; rank < ranks; ++rank) {
        const ShardLayout layout(store, rank, ranks);
        for (const TensorPart& part : held_parts(store, layout, slot)) {
          EXPECT_LE(part.copies, 1);
          shared += part.copies == 1;
          if (part.copies == 1 || rank == 0) place(part, tensor, counts);
        }
      }
      EXPECT_EQ(tensor, slot.view(slot.parameter.value()).to_vector<float>()) << slot.name << " on " << ranks;
      EXPECT_EQ(counts, std::vector<int>(size, 1)) << slot.name << " on " << ranks;
    }
    EXPECT_GE(shared, 5u) << ranks;
  }
}

/// Of models that are split over ranks, too: the parts of all of them are the tensors of the model that is not.
TEST(HeldParts, OfSplitModelsAreTheTensors) {
  const testing::TemporaryDirectory directory;
  const std::vector<std::string> configs = {
      R"({"model_type":"llama","vocab_size":64,"hidden_size":40,"intermediate_size":72,"num_hidden_layers":1,
          "num_attention_heads":4,"num_key_value_heads":2,"head_dim":12,"initializer_range":0.1,
          "max_position_embeddings":32,"attention_bias":true,"tie_word_embeddings":false})",
      R"({"model_type":"gpt2","architectures":["GPT2LMHeadModel"],"vocab_size":64,"n_positions":32,"n_embd":40,
          "n_layer":1,"n_head":2,"activation_function":"gelu_new","layer_norm_epsilon":1e-5,"initializer_range":0.1,
          "resid_pdrop":0.0,"embd_pdrop":0.0,"attn_pdrop":0.0})"};
  constexpr int kSplit = 2;
  for (const std::string& text : configs) {
    const std::string config = directory.write("config.json", text);
    const auto whole = create_model(config, DType::f32, {}, 5);
    const auto freeze = [](Model& model) {
      model.parameters().set_trainable([](const ParameterStore::Entry& entry) {
        return entry.name.find("gate_proj") == std::string::npos && entry.name.find("c_proj.bias") == std::string::npos;
      });
    };
    for (const int ranks : {1, 2, 3}) {
      std::vector<std::unique_ptr<Model>> models;  // [rank][place]
      for (int model = 0; model < ranks * kSplit; ++model) {
        models.push_back(create_model(config, DType::f32, {}, 5, [&](Model& made) {
          freeze(made);
          split_model(made, {model % kSplit, kSplit, nullptr, ranks, model / kSplit});
        }));
      }
      size_t alone = 0;
      for (size_t i = 0; i < whole->weights().size(); ++i) {
        const WeightSlot& wanted = whole->weights()[i];
        const auto size = static_cast<size_t>(wanted.shape.numel());
        std::vector<float> tensor(size);
        std::vector<int> counts(size);
        for (int model = 0; model < ranks * kSplit; ++model) {
          const ParameterStore& store = models[static_cast<size_t>(model)]->parameters();
          const ShardLayout layout(store, model / kSplit, ranks);
          const WeightSlot& slot = models[static_cast<size_t>(model)]->weights()[i];
          EXPECT_EQ(slot.shape, wanted.shape);
          for (const TensorPart& part : held_parts(store, layout, slot, {model % kSplit, kSplit})) {
            alone += part.copies == 1;
            const int holder = part.copies == 0 ? model : part.copy;
            ASSERT_LT(holder, part.copies == 0 ? ranks * kSplit : part.copies);
            if (holder == 0) place(part, tensor, counts);
          }
        }
        EXPECT_EQ(tensor, wanted.view(wanted.parameter.value()).to_vector<float>()) << wanted.name << " on " << ranks;
        EXPECT_EQ(counts, std::vector<int>(size, 1)) << wanted.name << " on " << ranks;
      }
      EXPECT_GE(alone, 8u) << ranks;
    }
  }
}

}  // namespace
}  // namespace ondol
