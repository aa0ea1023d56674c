// A model split over processes, against the same model in one: values, losses, gradients.
#include <ondol/models/tensor_parallel.h>

#include <cmath>

#include <gtest/gtest.h>

#include <ondol/base/philox.h>
#include <ondol/distributed/communicator.h>

#include "support/error_of.h"
#include "support/ranks.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

using testing::run_ranks;
using testing::TemporaryDirectory;

constexpr const char* kLlama =
    R"({"model_type":"llama","vocab_size":50,"hidden_size":24,"intermediate_size":20,"num_hidden_layers":2,)"
    R"("num_attention_heads":8,"num_key_value_heads":4,"head_dim":4,"initializer_range":0.3,)"
    R"("max_position_embeddings":32,"attention_bias":true,"mlp_bias":true,"tie_word_embeddings":false})";
constexpr const char* kTiedLlama =
    R"({"model_type":"llama","vocab_size":50,"hidden_size":24,"intermediate_size":20,"num_hidden_layers":1,)"
    R"("num_attention_heads":4,"initializer_range":0.3,"max_position_embeddings":32,"tie_word_embeddings":true})";

constexpr const char* kGpt2 =
    R"({"model_type":"gpt2","vocab_size":50,"n_positions":32,"n_embd":24,"n_layer":2,"n_head":4,"n_inner":20,)"
    R"("initializer_range":0.3,"embd_pdrop":0.0,"resid_pdrop":0.0,"attn_pdrop":0.0})";
constexpr const char* kGpt2WithDropout =
    R"({"model_type":"gpt2","vocab_size":50,"n_positions":32,"n_embd":24,"n_layer":2,"n_head":4,"n_inner":20,)"
    R"("initializer_range":0.3,"embd_pdrop":0.1,"resid_pdrop":0.1,"attn_pdrop":0.1})";
constexpr const char* kLlamaWithDropout =
    R"({"model_type":"llama","vocab_size":50,"hidden_size":24,"intermediate_size":20,"num_hidden_layers":2,)"
    R"("num_attention_heads":8,"num_key_value_heads":4,"head_dim":4,"initializer_range":0.3,)"
    R"("max_position_embeddings":32,"attention_dropout":0.3})";

class SplitModels : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { config = directory.write("config.json", GetParam()); }

  /// Values drawn anew, biases and norms too, so that no mistake hides behind zeros and ones.
  std::unique_ptr<Model> whole_model(DType dtype = DType::f32) const {
    auto model = create_model(config, dtype, Device{}, 3);
    const Tensor& values = model->parameters().flat_values();
    std::vector<float> drawn = values.to(DType::f32).to_vector<float>();
    for (size_t i = 0; i < drawn.size(); ++i) drawn[i] += 0.2f * static_cast<float>(philox_normal({9, 1, 0}, i));
    values.copy_from(Tensor::from_vector(drawn, values.shape()));
    return model;
  }

  TemporaryDirectory directory;
  std::string config;
};

INSTANTIATE_TEST_SUITE_P(Families, SplitModels,
                         ::testing::Values(kLlama, kTiedLlama, kGpt2, kGpt2WithDropout, kLlamaWithDropout));

/// The part of a file's tensor that a slot holds, taken from the whole.
void expect_part(const WeightSlot& own, const WeightSlot& whole) {
  const Tensor mine = own.view(own.parameter.value());
  const Tensor all = whole.view(whole.parameter.value());
  ASSERT_EQ(own.shape, all.shape()) << own.name;
  const Tensor wanted = Tensor::empty(mine.shape(), mine.dtype());
  own.take(wanted, all, 0);
  EXPECT_EQ(mine.to_vector<float>(), wanted.to_vector<float>()) << own.name;
}

TEST_P(SplitModels, AreDrawnAsOneProcessDrawsThem) {
  const auto whole = create_model(config, DType::f32, Device{}, 3);
  for (const int ranks : {2, 4}) {
    std::map<std::string, int64_t> held;
    for (int rank = 0; rank < ranks; ++rank) {
      const auto own = create_model(config, DType::f32, Device{}, 3, [&](Model& model) {
        split_model(model, {rank, ranks});
      });
      ASSERT_EQ(own->weights().size(), whole->weights().size());
      for (size_t i = 0; i < whole->weights().size(); ++i) {
        expect_part(own->weights()[i], whole->weights()[i]);
        held[whole->weights()[i].name] += own->weights()[i].view(own->weights()[i].parameter.value()).numel();
      }
      EXPECT_EQ(own->parameters().count(), whole->parameters().count());
      EXPECT_LT(own->parameters().flat_elements(), whole->parameters().flat_elements());
    }
    for (const WeightSlot& slot : whole->weights()) {
      const auto has = [&](const char* part) { return slot.name.find(part) != std::string::npos; };
      const bool closes = has("o_proj") || has("down_proj") || has("c_proj");
      const bool product = has("_proj.") || has("c_attn") || has("c_fc");
      const bool split = product && (slot.name.ends_with(".weight") || !closes);
      EXPECT_EQ(held[slot.name], slot.shape.numel() * (split ? 1 : ranks)) << slot.name;
    }
  }
}

TEST_P(SplitModels, AreLoadedInParts) {
  const auto whole = whole_model();
  save_model(*whole, directory / "saved");
  for (int rank = 0; rank < 2; ++rank) {
    const auto own = load_model(directory / "saved", {.device = "cpu", .extend = [&](Model& model) {
                                                        split_model(model, {rank, 2});
                                                      }});
    for (size_t i = 0; i < whole->weights().size(); ++i) expect_part(own->weights()[i], whole->weights()[i]);
  }
}

/// What one process would hold lies where it would lie, and together the ranks hold all of it.
TEST_P(SplitModels, KnowThePlacesInOneProcess) {
  save_model(*whole_model(), directory / "saved");
  const auto whole = load_model(directory / "saved", {.device = "cpu"});
  const std::vector<float> wanted = whole->parameters().flat_values().to_vector<float>();
  std::vector<float> got(wanted.size(), 0.0f);
  for (int rank = 0; rank < 2; ++rank) {
    const auto own = load_model(directory / "saved", {.device = "cpu", .extend = [&](Model& model) {
                                                        split_model(model, {rank, 2});
                                                      }});
    const ParameterStore& store = own->parameters();
    EXPECT_EQ(store.whole_trainable_elements(), whole->parameters().trainable_elements());
    for (const ParameterStore::Entry& entry : store.entries()) {
      std::vector<ParameterSplit::Piece> pieces = {{entry.slice(store.flat_values()), 0, 1}};
      if (entry.split != nullptr) pieces = entry.split->pieces(entry.variable.value());
      for (const auto& [values, begin, stride] : pieces) {
        const std::vector<float> piece = values.to_vector<float>();
        const int64_t run = entry.split == nullptr ? values.numel() : values.numel() / values.size(0);
        for (int64_t i = 0; i < values.numel(); ++i) {
          got.at(static_cast<size_t>(entry.whole_offset + begin + i / run * stride + i % run)) =
              piece[static_cast<size_t>(i)];
        }
      }
      const bool split = entry.offset >= store.split_begin() && entry.offset < store.split_end();
      EXPECT_EQ(split, entry.split != nullptr) << entry.name;
    }
  }
  EXPECT_EQ(got, wanted);
}

ModelInput input_of(const Model& model, int64_t batch, int64_t length) {
  std::vector<int32_t> ids, labels;
  std::vector<uint8_t> mask;
  for (int64_t i = 0; i < batch * length; ++i) {
    ids.push_back(static_cast<int32_t>(philox_word({4, 0, 0}, static_cast<uint64_t>(i)) % 50));
    labels.push_back(i % 5 == 3 ? kIgnoreIndex : ids.back());
    mask.push_back(i % length < length - 2 || i < length ? 1 : 0);
  }
  return model.prepare({.input_ids = Tensor::from_vector(ids, {batch, length}),
                        .attention_mask = Tensor::from_vector(mask, {batch, length}),
                        .labels = Tensor::from_vector(labels, {batch, length})});
}

struct Computed {
  double loss;
  std::vector<float> hidden;
};

/// Loss and, in the store, the gradients; complete ones.
Computed compute(Model& model, bool recompute) {
  const ModelInput input = input_of(model, 3, 7);  // 21 tokens: ranks have shares of different sizes
  ParameterStore& store = model.parameters();
  store.enable_gradients();
  store.clear_gradients();
  ForwardContext context;
  context.recompute_layers = recompute;
  context.training = true;
  context.rng = {.seed = 11, .stream = 64, .step = Tensor::from_vector<int64_t>({5}, {1})};
  const std::vector<LossScale> scales = mean_scales(model.count_targets(input));
  Tensor loss;
  {
    Tape tape;
    const Variable total = total_loss(model.losses(input, scales, context));
    loss = total.value().clone();
    tape.backward(total);
  }
  store.finish_gradients();
  if (Communicator* group = model.tensor_group()) {
    group->all_reduce(loss).wait();
    const Tensor& gradients = store.flat_gradients();
    group->all_reduce(gradients.narrow(0, 0, store.split_begin())).wait();
    group->all_reduce(gradients.narrow(0, store.split_end(), gradients.numel() - store.split_end())).wait();
  }
  return {loss.item(), model.hidden(input, {}).value().to(DType::f32).to_vector<float>()};
}

void expect_near(const std::string& what, const std::vector<float>& got, const std::vector<float>& wanted,
                 double tolerance) {
  ONDOL_CHECK(got.size() == wanted.size(), what, ": ", got.size(), " elements, not ", wanted.size());
  double size = 0.0;
  for (const float value : wanted) size = std::max(size, std::abs(static_cast<double>(value)));
  for (size_t i = 0; i < got.size(); ++i) {
    ONDOL_CHECK(std::abs(got[i] - wanted[i]) <= tolerance * (size + 0.05), what, "[", i, "] is ", got[i], ", not ",
                wanted[i]);
  }
}

/// The gradient of every tensor of the file.
std::vector<Tensor> gradients_of(const Model& model) {
  std::vector<Tensor> all;
  for (const WeightSlot& slot : model.weights()) all.push_back(slot.view(slot.parameter.grad()).clone());
  return all;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0.0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
  return largest;
}

TEST_P(SplitModels, ComputeWhatOneProcessComputes) {
  const auto saved = whole_model(DType::bf16);
  save_model(*saved, directory / "saved");
  const auto exact = load_model(directory / "saved", {.device = "cpu", .dtype = DType::f32});
  const Computed wanted = compute(*exact, false);
  const std::vector<Tensor> gradients = gradients_of(*exact);
  const Computed rounded = compute(*saved, false);
  const std::vector<Tensor> rounded_gradients = gradients_of(*saved);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int ranks : {2, 4}) {
      const auto errors = run_ranks(ranks, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
        const auto group = make_communicator(info, meeting);
        const auto own = load_model(directory / "saved", {.device = "cpu", .dtype = dtype, .extend = [&](Model& model) {
                                                            split_model(model, {info.rank, info.size, group.get()});
                                                          }});
        // In bf16 as far from the exact values as one process is.
        const auto expect_close = [&](const std::string& what, const std::vector<float>& got,
                                      const std::vector<float>& exactly, const std::vector<float>& in_bf16) {
          if (dtype == DType::f32) return expect_near(what, got, exactly, 5e-6);
          const double error = largest_difference(got, exactly), one = largest_difference(in_bf16, exactly);
          double size = 0.0;
          for (const float value : exactly) size = std::max(size, std::abs(static_cast<double>(value)));
          ONDOL_CHECK(error <= 4 * one + 0.01 * size + 2e-3, what, " in bf16 is ", error, " off, one process ", one);
        };
        for (const bool recompute : {false, true}) {
          const Computed got = compute(*own, recompute);
          ONDOL_CHECK(std::abs(got.loss - wanted.loss) < (dtype == DType::f32 ? 1e-6 : 0.02) * wanted.loss, "loss ",
                      got.loss, ", not ", wanted.loss);
          expect_close("hidden states", got.hidden, wanted.hidden, rounded.hidden);
          for (size_t i = 0; i < gradients.size(); ++i) {
            const WeightSlot& slot = own->weights()[i];
            const Tensor part = slot.view(slot.parameter.grad());
            const auto own_part = [&](const Tensor& whole) {
              const Tensor out = Tensor::empty(part.shape());
              slot.take(out, whole, 0);
              return out.to_vector<float>();
            };
            expect_close("gradient of " + slot.name, part.to_vector<float>(), own_part(gradients[i]),
                         own_part(rounded_gradients[i]));
          }
        }
      });
      EXPECT_EQ(errors, std::vector<std::string>(static_cast<size_t>(ranks)));
    }
  }
}

TEST(SplitModelErrors, NameWhatCannotBeSplit) {
  const TemporaryDirectory directory;
  const auto split_in = [&](const std::string& text, int ranks) {
    const std::string path = directory.write("config.json", text);
    return testing::error_of([&] {
      create_model(path, DType::f32, Device{}, 1, [&](Model& model) { split_model(model, {0, ranks}); });
    });
  };
  EXPECT_EQ(split_in(kLlama, 3),
            "the model cannot be split over 3 processes: they do not divide num_attention_heads, which is 8");
  EXPECT_EQ(split_in(kLlama, 8),
            "the model cannot be split over 8 processes: they do not divide num_key_value_heads, which is 4");
  EXPECT_EQ(split_in(R"({"model_type":"llama","architectures":["LlamaForTokenClassification"],"hidden_size":16,
      "num_attention_heads":4,"vocab_size":8,"intermediate_size":8,"num_hidden_layers":1})",
                     2),
            "a LlamaForTokenClassification model cannot be split over processes (tensor parallelism): only language "
            "models can");
  EXPECT_EQ(
      split_in(R"({"model_type":"distilbert","vocab_size":8,"dim":16,"n_heads":2,"n_layers":1,"hidden_dim":16})", 2),
      "a distilbert model cannot be split over processes (tensor parallelism)");
  const std::string path = directory.write("config.json", kLlama);
  const auto model = create_model(path, DType::f32, Device{}, 1, [](Model& m) { split_model(m, {0, 2}); });
  EXPECT_EQ(testing::error_of([&] { model->make_cache(1, 8); }), "a model that is split over processes cannot decode");
}

}  // namespace
}  // namespace ondol
