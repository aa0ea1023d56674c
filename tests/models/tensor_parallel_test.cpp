// A model split over processes, against the same model in one: values, losses, gradients.
#include <ondol/models/tensor_parallel.h>

#include <algorithm>
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

// The three terms of dropout that the families know; 18 tokens in a row, so that BERT gathers its targets.
constexpr const char* kBert =
    R"({"model_type":"bert","architectures":["BertForPreTraining"],"vocab_size":50,"hidden_size":24,)"
    R"("num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":20,"max_position_embeddings":32,)"
    R"("initializer_range":0.3,"hidden_dropout_prob":0.1,"attention_probs_dropout_prob":0.1})";
constexpr const char* kRoberta =
    R"({"model_type":"roberta","architectures":["RobertaForMaskedLM"],"vocab_size":50,"hidden_size":24,)"
    R"("num_hidden_layers":1,"num_attention_heads":4,"intermediate_size":20,"max_position_embeddings":32,)"
    R"("initializer_range":0.3,"hidden_dropout_prob":0.0,"attention_probs_dropout_prob":0.1,)"
    R"("tie_word_embeddings":false})";
constexpr const char* kDistilBert =
    R"({"model_type":"distilbert","architectures":["DistilBertForMaskedLM"],"vocab_size":50,"dim":24,"n_layers":2,)"
    R"("n_heads":4,"hidden_dim":20,"max_position_embeddings":32,"initializer_range":0.3,"dropout":0.1})";
constexpr const char* kElectra =
    R"({"model_type":"electra","architectures":["ElectraForMaskedLM"],"vocab_size":50,"embedding_size":12,)"
    R"("hidden_size":24,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":20,)"
    R"("max_position_embeddings":32,"initializer_range":0.3,"hidden_dropout_prob":0.1})";
constexpr const char* kT5 =
    R"({"model_type":"t5","vocab_size":50,"d_model":24,"d_kv":5,"d_ff":20,"num_layers":2,"num_heads":4,)"
    R"("relative_attention_num_buckets":8,"relative_attention_max_distance":12,"dropout_rate":0.1,)"
    R"("feed_forward_proj":"gelu","pad_token_id":0,"decoder_start_token_id":0})";
constexpr const char* kGatedT5 =
    R"({"model_type":"t5","vocab_size":50,"d_model":24,"d_kv":6,"d_ff":20,"num_layers":1,"num_decoder_layers":2,)"
    R"("num_heads":4,"relative_attention_num_buckets":8,"relative_attention_max_distance":12,"dropout_rate":0.0,)"
    R"("feed_forward_proj":"gated-gelu","tie_word_embeddings":false,"pad_token_id":0,"decoder_start_token_id":0})";
// Heads for labels.
constexpr const char* kBertOfSequences =
    R"({"model_type":"bert","architectures":["BertForSequenceClassification"],"vocab_size":50,"hidden_size":24,)"
    R"("num_hidden_layers":1,"num_attention_heads":4,"intermediate_size":20,"max_position_embeddings":32,)"
    R"("initializer_range":0.3,"num_labels":3})";
constexpr const char* kElectraOfAnswers =
    R"({"model_type":"electra","architectures":["ElectraForQuestionAnswering"],"vocab_size":50,"embedding_size":24,)"
    R"("hidden_size":24,"num_hidden_layers":1,"num_attention_heads":4,"intermediate_size":20,)"
    R"("max_position_embeddings":32,"initializer_range":0.3})";
constexpr const char* kGpt2OfTokens =
    R"({"model_type":"gpt2","architectures":["GPT2ForTokenClassification"],"vocab_size":50,"n_positions":32,)"
    R"("n_embd":24,"n_layer":1,"n_head":4,"n_inner":20,"initializer_range":0.3,"num_labels":3})";
constexpr const char* kT5OfSequences =
    R"({"model_type":"t5","architectures":["T5ForSequenceClassification"],"vocab_size":50,"d_model":24,"d_kv":5,)"
    R"("d_ff":20,"num_layers":1,"num_heads":4,"relative_attention_num_buckets":8,)"
    R"("relative_attention_max_distance":12,"dropout_rate":0.1,"feed_forward_proj":"gelu","num_labels":3,"pad_token_id":0,)"
    R"("decoder_start_token_id":0,"eos_token_id":1})";

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
                         ::testing::Values(kLlama, kTiedLlama, kGpt2, kGpt2WithDropout, kLlamaWithDropout, kBert,
                                           kRoberta, kDistilBert, kElectra, kT5, kGatedT5, kBertOfSequences,
                                           kElectraOfAnswers, kGpt2OfTokens, kT5OfSequences));

/// What is shared out of a layer: all of its matrices, and the biases of those that read the residual stream.
bool is_shared_out(const std::string& name) {
  if (name.starts_with("classification_head.")) return false;
  const auto has = [&](std::initializer_list<const char*> parts) {
    return std::any_of(parts.begin(), parts.end(),
                       [&](const char* part) { return name.find(part) != std::string::npos; });
  };
  if (has({"o_proj.", "down_proj.", "c_proj.", "output.dense.", "out_lin.", "lin2.", "Attention.o.", ".wo.",
           "relative_attention_bias."})) {
    return name.ends_with(".weight");
  }
  return has({"_proj.", "c_attn.", "c_fc.", "attention.self.", "intermediate.dense.", "q_lin.", "k_lin.", "v_lin.",
              "lin1.", "Attention.q.", "Attention.k.", "Attention.v.", ".wi"});
}

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
      EXPECT_EQ(held[slot.name], slot.shape.numel() * (is_shared_out(slot.name) ? 1 : ranks)) << slot.name;
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

/// Random values below `limit`.
Tensor draws(int64_t limit, const Shape& shape, uint32_t stream) {
  std::vector<int32_t> values;
  for (int64_t i = 0; i < shape.numel(); ++i) {
    values.push_back(
        static_cast<int32_t>(philox_word({4, stream, 0}, static_cast<uint64_t>(i)) % static_cast<uint64_t>(limit)));
  }
  return Tensor::from_vector(values, shape);
}

/// With targets of every kind that the model's head has. 21 or 54 tokens: ranks have shares of different sizes.
ModelInput input_of(const Model& model) {
  const Head head = model.info().head;
  const bool few = head == Head::masked_language_model && model.info().model_type != "distilbert";
  const int64_t batch = 3, length = head == Head::masked_language_model ? 18 : 7;
  ModelInput input;
  std::vector<int32_t> ids = draws(50, {batch, length}, 0).to_vector<int32_t>();
  std::vector<uint8_t> mask;
  for (int64_t i = 0; i < batch * length; ++i) {
    mask.push_back(i % length < length - 2 || i < length ? 1 : 0);
    if (i % length == length - 3) ids[static_cast<size_t>(i)] = 1;  // T5's end
  }
  input.input_ids = Tensor::from_vector(ids, {batch, length});
  input.attention_mask = Tensor::from_vector(mask, {batch, length});
  switch (head) {
    case Head::sequence_classification:
      input.labels = draws(3, {batch}, 1);
      break;
    case Head::token_classification:
      input.labels = draws(3, {batch, length}, 1);
      break;
    case Head::question_answering:
      input.start_positions = draws(length, {batch}, 1);
      input.end_positions = draws(length, {batch}, 2);
      break;
    default: {
      const Shape shape{batch, head == Head::sequence_to_sequence ? 5 : length};
      std::vector<int32_t> labels = draws(50, shape, 1).to_vector<int32_t>();
      for (size_t i = 0; i < labels.size(); ++i) {
        if (few ? i % 7 != 3 : i % 5 == 3) labels[i] = kIgnoreIndex;
      }
      input.labels = Tensor::from_vector(labels, shape);
      if (model.info().architecture == "BertForPreTraining") input.next_sentence_label = draws(2, {batch}, 3);
    }
  }
  const ModelInput prepared = model.prepare(input);
  ONDOL_CHECK(prepared.target_labels.defined() == few, "targets were not gathered as they were meant to be");
  return prepared;
}

struct Computed {
  double loss;
  std::vector<float> hidden;
};

/// Loss and, in the store, the gradients; complete ones.
Computed compute(Model& model, bool recompute) {
  const ModelInput input = input_of(model);
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

double largest_of(const std::vector<float>& values) {
  double largest = 0.0;
  for (const float value : values) largest = std::max(largest, std::abs(static_cast<double>(value)));
  return largest;
}

/// The gradient of every tensor of the file; undefined for a bias that takes no part.
std::vector<Tensor> gradients_of(const Model& model) {
  std::vector<Tensor> all;
  for (const WeightSlot& slot : model.weights()) {
    all.push_back(slot.parameter.has_grad() ? slot.view(slot.parameter.grad()).clone() : Tensor());
  }
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
  double largest = 0.0;
  for (const Tensor& gradient : gradients) {
    if (gradient.defined()) largest = std::max(largest, largest_of(gradient.to_vector<float>()));
  }
  const Computed rounded = compute(*saved, false);
  const std::vector<Tensor> rounded_gradients = gradients_of(*saved);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int ranks : {2, 4}) {
      const auto errors = run_ranks(ranks, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
        const auto group = make_communicator(info, meeting);
        const auto own = load_model(directory / "saved", {.device = "cpu", .dtype = dtype, .extend = [&](Model& model) {
                                                            split_model(model, {info.rank, info.size, group.get()});
                                                          }});
        // `scale` is the size of what rounding errors come from. In bf16 as far from the exact values as one process
        // is.
        const auto expect_close = [&](const std::string& what, const std::vector<float>& got,
                                      const std::vector<float>& exactly, const std::vector<float>& in_bf16,
                                      double scale) {
          const double error = largest_difference(got, exactly), one = largest_difference(in_bf16, exactly);
          const double size = largest_of(exactly);
          const double allowed =
              dtype == DType::f32 ? 5e-6 * (size + 0.3 * scale) : 4 * one + 0.01 * size + 0.004 * scale;
          ONDOL_CHECK(error <= allowed, what, " is ", error, " off, of ", size, ", one process in bf16 ", one);
        };
        for (const bool recompute : {false, true}) {
          const Computed got = compute(*own, recompute);
          ONDOL_CHECK(std::abs(got.loss - wanted.loss) < (dtype == DType::f32 ? 1e-6 : 0.02) * wanted.loss, "loss ",
                      got.loss, ", not ", wanted.loss);
          expect_close("hidden states", got.hidden, wanted.hidden, rounded.hidden, largest_of(wanted.hidden));
          for (size_t i = 0; i < gradients.size(); ++i) {
            const WeightSlot& slot = own->weights()[i];
            ONDOL_CHECK(slot.parameter.has_grad() == gradients[i].defined(), slot.name, " has another gradient");
            if (!gradients[i].defined()) continue;
            const Tensor part = slot.view(slot.parameter.grad());
            const auto own_part = [&](const Tensor& whole) {
              const Tensor out = Tensor::empty(part.shape());
              slot.take(out, whole, 0);
              return out.to_vector<float>();
            };
            expect_close("gradient of " + slot.name, part.to_vector<float>(), own_part(gradients[i]),
                         own_part(rounded_gradients[i]), largest);
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
  EXPECT_EQ(split_in(kBert, 3),
            "the model cannot be split over 3 processes: they do not divide the number of attention heads, which is 4");
  EXPECT_EQ(split_in(kT5, 8), "the model cannot be split over 8 processes: they do not divide num_heads, which is 4");
  EXPECT_EQ(split_in(R"({"model_type":"bart"})", 2),
            "a bart model cannot be split over processes (tensor parallelism)");
  const std::string path = directory.write("config.json", kLlama);
  const auto model = create_model(path, DType::f32, Device{}, 1, [](Model& m) { split_model(m, {0, 2}); });
  EXPECT_EQ(testing::error_of([&] { model->make_cache(1, 8); }), "a model that is split over processes cannot decode");
}

}  // namespace
}  // namespace ondol
