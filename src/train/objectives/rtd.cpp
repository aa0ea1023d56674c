// Replaced-token detection (ELECTRA, Clark et al. 2020): a small generator, a masked language model, fills in masked
// tokens; the discriminator tells for every token whether it was replaced. Both are trained together:
//
//   loss = mlm(generator) + discriminator_weight * rtd(discriminator)      means over masked and over all tokens
//
// The generator's tokens are drawn from its softmax by Gumbel noise, which follows from (seed, number of the sample,
// place) alone; no gradient goes through the draw, and a token that happens to be the original one counts as original.
// The embeddings of both models are the same parameters, or have nothing to do with each other, or the discriminator's
// are the generator's plus a difference of its own which alone its gradient reaches (DeBERTaV3, He et al. 2023).
#include <algorithm>
#include <cmath>

#include <ondol/autograd/functions.h>

#include "train/objectives/objectives.h"

namespace ondol {

namespace {

constexpr uint32_t kStream = 0x52544400;
/// Dropout sites of the discriminator lie behind the generator's layers and before its head.
constexpr uint32_t kDiscriminatorSites = 1u << 14;
constexpr const char* kGenerator = "generator";
constexpr const char* kOriginals = "original_ids";
constexpr const char* kReplaced = "replaced";  // 0 for tokens, -100 for padding, until tokens are drawn
constexpr const char* kSamples = "sample_numbers";
constexpr const char* kEmbeddings[] = {"embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight",
                                       "embeddings.token_type_embeddings.weight"};

const Tensor& find(const Batch& batch, const char* name) {
  if (const Tensor* found = batch.find(name)) return *found;
  throw Error(concat("the batch was not prepared for the objective \"rtd\": it has no \"", name, "\""));
}

/// What the models take of a batch.
ModelInput masked_input(Batch batch) {
  std::erase_if(batch.others, [](const auto& entry) {
    return entry.first == kOriginals || entry.first == kReplaced || entry.first == kSamples;
  });
  return model_input(batch);
}

const WeightSlot* find_slot(const Model& model, const std::string& ending) {
  for (const WeightSlot& slot : model.weights()) {
    if (slot.name.ends_with(ending)) return &slot;
  }
  return nullptr;
}

class ReplacedTokenDetection final : public Objective {
 public:
  explicit ReplacedTokenDetection(const JsonReader& section) : masking_(make_masking(section)) {
    const JsonReader generator = section.child("generator");
    generator_config_ = generator.get<std::string>("config", "");
    generator_size_ = generator.get<double>("size", 0.25, {.low = 0.0, .high = 1.0, .low_open = true});
    if (!generator_config_.empty() && generator.has("size")) {
      generator.fail("size", "objective.generator.config is given already");
    }
    sharing_ = section.get_enum("embedding_sharing", "shared", {"shared", "none", "disentangled"});
    weight_ = section.get<double>("discriminator_weight", 50.0, at_least(0.0));
    temperature_ = section.get<double>("temperature", 1.0, above(0.0));
  }

  std::string settings() const override {
    Json masking = Json::parse(masking_->settings());
    masking.erase("type");
    Json out = {{"type", "rtd"},
                {"mlm", masking},
                {"embedding_sharing", sharing_},
                {"discriminator_weight", weight_},
                {"temperature", temperature_}};
    if (generator_config_.empty()) {
      out["generator"]["size"] = generator_size_;
    } else {
      out["generator"]["config"] = generator_config_;
    }
    return out.dump();
  }

  std::vector<std::string> loss_names() const override { return {"mlm", "rtd"}; }

  void choose_data(DataConfig& data) const override { masking_->choose_data(data); }

  void extend(Model& model) const override {
    std::shared_ptr<Model> generator = make_generator(model);
    if (const Model* before = model.attached(kGenerator)) {
      if (before->config_json() == generator->config_json()) return;
      throw UsageError("objective.generator is another one than in an earlier stage");
    }
    std::vector<ParameterStore::SharedParameter> pairs;
    for (const char* name : kEmbeddings) {
      const WeightSlot *own = find_slot(model, name), *theirs = find_slot(*generator, name);
      if (sharing_ == "none" || own == nullptr || theirs == nullptr) continue;
      if (own->shape == theirs->shape) {
        pairs.push_back({theirs->parameter, own->parameter});
      } else if (name == kEmbeddings[0]) {
        throw UsageError(
            concat("embeddings of generator and discriminator cannot be shared: ", theirs->shape, " and ", own->shape),
            "give the generator the discriminator's embedding_size, or set objective.embedding_sharing to \"none\"");
      }
    }
    const bool shared = sharing_ == "shared";
    model.parameters().absorb("objective.generator.", generator->parameters(),
                              shared ? pairs : std::vector<ParameterStore::SharedParameter>());
    if (!shared) {
      for (const auto& [theirs, own] : pairs) model.parameters().set_base(own, theirs);
    }
    model.attach(kGenerator, std::move(generator));
  }

  void set_up(Model& model, const ModelOrigin& origin) const override {
    if (origin.kind == ModelOrigin::files) model.parameters().keep_sums();
    model.parameters().refresh_sums();
  }

  void check_samples(const Batch& example, const ObjectiveContext& context) const override {
    masking_->check_samples(example, for_generator(context));
  }

  Batch prepare(Batch batch, const ObjectiveContext& context) const override {
    const Tensor originals = batch.input_ids;
    batch = masking_->prepare(std::move(batch), for_generator(context));
    std::vector<int32_t> replaced(static_cast<size_t>(originals.numel()), 0);
    if (batch.attention_mask.defined()) {
      const std::vector<uint8_t> mask = batch.attention_mask.to_vector<uint8_t>();
      for (size_t i = 0; i < replaced.size(); ++i) replaced[i] = mask[i] != 0 ? 0 : kIgnoreIndex;
    }
    std::vector<int64_t> samples(static_cast<size_t>(batch.size()));
    for (size_t b = 0; b < samples.size(); ++b) samples[b] = batch.first_sample + static_cast<int64_t>(b);
    batch.others.emplace_back(kOriginals, originals.contiguous());
    batch.others.emplace_back(kReplaced, Tensor::from_vector(replaced, originals.shape()));
    batch.others.emplace_back(kSamples, Tensor::from_vector(samples, {batch.size()}));
    return batch;
  }

  std::vector<int64_t> count_targets(const Batch& prepared, const Model&) const override {
    const auto count = [](const Tensor& labels) {
      const std::vector<int32_t> values = labels.to_vector<int32_t>();
      return static_cast<int64_t>(values.size()) - std::count(values.begin(), values.end(), kIgnoreIndex);
    };
    return {count(prepared.labels), count(find(prepared, kReplaced))};
  }

  std::vector<Variable> losses(Model& model, const Batch& rows, const std::vector<LossScale>& scales,
                               const ForwardContext& context) const override {
    Model& generator = *model.attached(kGenerator);
    model.parameters().tie_gradients();
    const Device device = model.device();
    const ModelInput masked = masked_input(rows).to(device);
    const TokenPredictions predicted = generator.predict_tokens(masked, context);
    const bool gathered = masked.target_positions.defined();

    ops::TokenDraw draw;
    draw.seed = context.rng.seed;
    draw.stream = kStream;
    draw.samples = find(rows, kSamples).contiguous().to(device);
    draw.length = masked.input_ids.size(1);
    if (gathered) draw.positions = masked.target_positions;
    draw.temperature = static_cast<float>(temperature_);
    draw.tokens = copy(find(rows, kOriginals), device);
    draw.replaced = copy(find(rows, kReplaced), device);
    functions::LinearCrossEntropyInputs inputs;
    inputs.weight = predicted.output.weight;
    inputs.bias = predicted.output.bias;
    inputs.scale = scales.at(0);
    inputs.draw = &draw;
    const Tensor labels = gathered ? masked.target_labels : masked.labels;
    const Variable mlm = functions::linear_cross_entropy(predicted.features, labels, inputs);

    ModelInput filled = masked;
    filled.input_ids = draw.tokens;
    filled.labels = draw.replaced;
    filled.target_positions = filled.target_labels = {};
    ForwardContext discriminator_context = context;
    discriminator_context.rng.stream += kDiscriminatorSites;
    const LossScale scale(weight_ * static_cast<double>(scales.at(1).value), scales.at(1).factor);
    return {mlm, model.losses(filled, {scale}, discriminator_context).at(0)};
  }

 private:
  /// Of the chosen tokens 85 % are masked, as in ELECTRA, and none becomes a random one.
  static std::unique_ptr<Objective> make_masking(const JsonReader& section) {
    Json settings = section.raw("mlm").is_null() ? Json::object() : section.raw("mlm");
    if (!settings.is_object()) section.fail("mlm", "expected an object");
    settings["type"] = "mlm";
    if (!settings.contains("mask_fraction")) settings["mask_fraction"] = 0.85;
    if (!settings.contains("random_fraction")) settings["random_fraction"] = 0.0;
    const Json document = {{"objective", {{"mlm", settings}}}};
    const JsonReader root(document, section.file());
    std::unique_ptr<Objective> made = make_objective(root.child("objective").child("mlm"));
    root.finish();
    return made;
  }

  /// Without memory. Its configuration is given, or the discriminator's with fewer heads.
  std::unique_ptr<Model> make_generator(const Model& discriminator) const {
    const ModelInfo& info = discriminator.info();
    if (info.head != Head::replaced_token_detection) {
      throw UsageError(concat("objective \"rtd\" needs a model that tells replaced tokens, not a ", info.model_type,
                              " model (", info.architecture, ")"),
                       "for example one with architectures [\"ElectraForPreTraining\"]");
    }
    std::unique_ptr<Model> generator;
    if (!generator_config_.empty()) {
      generator = outline_model(generator_config_);
    } else {
      Json config = Json::parse(discriminator.config_json());
      const auto heads = static_cast<int64_t>(info.num_kv_heads);
      const int64_t fewer = std::max<int64_t>(1, std::llround(generator_size_ * static_cast<double>(heads)));
      const int64_t intermediate = config.value("intermediate_size", int64_t{1024});
      config["num_attention_heads"] = fewer;
      config["hidden_size"] = fewer * info.head_dim;
      config["intermediate_size"] = std::max<int64_t>(1, intermediate * fewer / heads);
      config["architectures"] = {"ElectraForMaskedLM"};
      generator = outline_model(config.dump(), "generator of objective.generator.size");
    }
    const ModelInfo& theirs = generator->info();
    const std::string where = generator_config_.empty() ? "" : concat(" (", generator_config_, ")");
    if (theirs.head != Head::masked_language_model || (theirs.model_type != "electra" && theirs.model_type != "bert")) {
      throw UsageError(concat("the generator must be an electra or bert model that predicts masked tokens, not a ",
                              theirs.architecture, where));
    }
    if (theirs.vocab_size != info.vocab_size) {
      throw UsageError(concat("generator and discriminator have different vocabularies: ", theirs.vocab_size, " and ",
                              info.vocab_size, " tokens", where));
    }
    return generator;
  }

  ObjectiveContext for_generator(const ObjectiveContext& context) const {
    const Model* generator = context.model.attached(kGenerator);
    if (generator == nullptr) {
      if (outline_ == nullptr) outline_ = make_generator(context.model);
      generator = outline_.get();
    }
    return {.model = *generator,
            .vocabulary = context.vocabulary,
            .tokenizer = context.tokenizer,
            .seed = context.seed,
            .step = context.step,
            .training = context.training};
  }

  /// On the device, and not the batch's own.
  static Tensor copy(const Tensor& source, Device device) { return source.contiguous().to(device).clone(); }

  std::unique_ptr<Objective> masking_;
  std::string generator_config_, sharing_;
  double generator_size_, weight_, temperature_;
  mutable std::unique_ptr<Model> outline_;  // where no model was extended, to look at batches alone
};

}  // namespace

std::unique_ptr<Objective> objectives::make_rtd(const JsonReader& section) {
  return std::make_unique<ReplacedTokenDetection>(section);
}

}  // namespace ondol
