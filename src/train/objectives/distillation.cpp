// Distillation (Hinton et al. 2015; DistilBERT, Sanh et al. 2019): a student learns what a larger, frozen teacher
// predicts for the samples and targets of another objective.
//
//   loss = soft_weight T^2 KL(teacher || student at temperature T) + hard_weight CE(labels)      means over targets
//        + cosine_weight (1 - cos(last hidden states))                                           mean over tokens
//
// Where the widths differ the student's states go through a trained projection before the third term. An evaluation
// reports the loss of the objective itself, which can be compared with that of a model trained without a teacher.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <unordered_set>

#include <ondol/autograd/functions.h>
#include <ondol/autograd/low_rank.h>
#include <ondol/base/file.h>
#include <ondol/ops/embedding.h>
#include <ondol/ops/matmul.h>
#include <ondol/ops/reduce.h>
#include <ondol/tokenizer/tokenizer.h>

#include "base/fnv1a.h"
#include "train/objectives/objectives.h"
#include "train/ranks.h"
#include "train/teacher_cache.h"
#include "train/teacher_layers.h"

namespace ondol {

namespace {

namespace fs = std::filesystem;

constexpr const char* kProjection = "objective.hidden_projection";
constexpr const char* kTokenWeights = "token_weights";  // marks a batch that is to be distilled
constexpr const char* kTeacherTokens = "teacher.tokens";
constexpr const char* kTeacherProbabilities = "teacher.probabilities";
constexpr const char* kTeacherRest = "teacher.rest";
constexpr const char* kTeacherPositions = "teacher.position_ids";
constexpr const char* kTeacherTypes = "teacher.token_type_ids";
/// Samples and rows of logits that are computed at a time for the cache.
constexpr int64_t kCacheSamples = 16, kCacheRows = 256;

/// Without what stands there for the teacher.
Batch student_batch(Batch batch) {
  std::erase_if(batch.others,
                [](const auto& entry) { return entry.first == kTokenWeights || entry.first.starts_with("teacher."); });
  return batch;
}

LossScale times(double weight, const LossScale& scale) { return {weight * scale.value, scale.factor}; }

/// Of what a sample is made of.
uint64_t content_hash(const ModelInput& input, int64_t row) {
  Fnv1a<uint64_t> hash;
  for (const Tensor* tensor : {&input.input_ids, &input.attention_mask, &input.documents, &input.token_type_ids,
                               &input.decoder_input_ids, &input.decoder_attention_mask, &input.labels}) {
    hash.add_unit(tensor->defined() ? 1 : 0);
    if (!tensor->defined()) continue;
    const Tensor part = tensor->select(0, row).contiguous();
    hash.add({static_cast<const char*>(part.raw()), static_cast<size_t>(part.numel()) * dtype_size(part.dtype())});
  }
  return hash.value();
}

std::string fingerprint(const Model& model) {
  const std::string config = model.config_json();
  const Tensor values = model.parameters().flat_values().to(Device{});
  uint32_t sum = crc32(0, config.data(), config.size());
  sum = crc32(sum, values.raw(), static_cast<size_t>(values.numel()) * dtype_size(values.dtype()));
  return concat(dtype_name(values.dtype()), "-crc32-", sum);
}

class Distillation final : public Objective {
 public:
  explicit Distillation(const JsonReader& section) {
    inner_ = make_inner(section.child("inner"));
    const JsonReader teacher = section.require_child("teacher");
    teacher_ = teacher.require<std::string>("path");
    if (teacher.has("dtype")) teacher_dtype_ = dtype_from_name(teacher.get_enum("dtype", "f32", {"f32", "bf16"}));
    temperature_ = section.get<double>("temperature", 2.0, above(0.0));
    soft_weight_ = section.get<double>("soft_weight", 5.0, at_least(0.0));
    hard_weight_ = section.get<double>("hard_weight", 2.0, at_least(0.0));
    cosine_weight_ = section.get<double>("cosine_weight", 1.0, at_least(0.0));
    label_mix_ = section.get<double>("teacher_label_mix", 0.0, between(0.0, 1.0));
    read_initialize(section);
    const JsonReader cache = section.child("cache");
    cache_path_ = cache.get<std::string>("path", "");
    cache_top_k_ = cache.get<int64_t>("top_k", 64, between(1, 1 << 20));
    if (!cache_path_.empty() && cosine_weight_ > 0.0) {
      section.fail("cosine_weight", "a cache of predictions holds no hidden states (objective.cache)",
                   "set objective.cosine_weight to 0");
    }
  }

  std::string settings() const override {
    Json out = {{"type", "distillation"},          {"inner", Json::parse(inner_->settings())},
                {"teacher", {{"path", teacher_}}}, {"temperature", temperature_},
                {"soft_weight", soft_weight_},     {"hard_weight", hard_weight_},
                {"cosine_weight", cosine_weight_}, {"teacher_label_mix", label_mix_}};
    if (teacher_dtype_) out["teacher"]["dtype"] = dtype_name(*teacher_dtype_);
    out["initialize"] = initialize_ ? (layers_.empty() ? Json("every_second") : Json(layers_)) : Json("none");
    if (!cache_path_.empty()) out["cache"] = {{"path", cache_path_}, {"top_k", cache_top_k_}};
    return out.dump();
  }

  std::vector<std::string> loss_names() const override { return {"soft", "hard", "cosine"}; }

  int64_t tokens_per_sample(int64_t sequence_length) const override {
    return inner_->tokens_per_sample(sequence_length);
  }

  std::shared_ptr<const RecordEncoder> record_encoder(const RecordContext& context) const override {
    return inner_->record_encoder(context);
  }

  void choose_data(DataConfig& data) const override { inner_->choose_data(data); }

  void extend(Model& model) const override {
    inner_->extend(model);
    if (cosine_weight_ == 0.0) return;
    const int64_t own = model.info().hidden_size, theirs = outline_model(teacher_)->info().hidden_size;
    if (own == theirs) return;
    const auto size = static_cast<float>(1.0 / std::sqrt(static_cast<double>(own)));
    model.parameters().add_extra(kProjection, {theirs, own}, Init::normal(size));
  }

  void set_up(Model& model, const ModelOrigin& origin) const override {
    inner_->set_up(model, origin);
    if (model.attached(key()) == nullptr) {
      LoadOptions options;
      options.device = to_string(model.device());
      options.dtype = teacher_dtype_;
      options.keep_quantized = false;
      model.attach(key(), load_model(teacher_, options));
    }
    const Model& teacher = *model.attached(key());
    check_pair(model, teacher);
    check_tokenizers(origin.tokenizer);
    if (!initialize_ || origin.kind == ModelOrigin::checkpoint) return;
    if (origin.kind == ModelOrigin::files) {
      throw UsageError("objective.initialize is for models that begin anew (model.config), not for model.from");
    }
    copy_teacher_layers(model, teacher, layers_);
  }

  void check_samples(const Batch& example, const ObjectiveContext& context) const override {
    inner_->check_samples(example, context);
    const Model* teacher = context.model.attached(key());
    if (teacher == nullptr) return;
    const int64_t length = example.input_ids.size(1),
                  limit = std::max(teacher->info().max_positions, teacher->info().max_source_positions);
    if (limit > 0 && length > limit) {
      throw UsageError(
          concat("samples have ", length, " tokens, the teacher allows ", limit, " positions (", teacher_, ")"));
    }
    if (!cache_path_.empty() && std::filesystem::exists(cache_path_)) {
      TeacherCacheSettings settings = cache_settings(*teacher);
      settings.writes = false;
      const TeacherCache of_this_teacher(settings);
    }
  }

  Batch prepare(Batch batch, const ObjectiveContext& context) const override {
    const Tensor positions = batch.positions;
    batch = inner_->prepare(std::move(batch), context);
    Model* teacher = context.model.attached(key());
    if (!context.training || teacher == nullptr) return batch;
    const ModelInput prepared = model_input(batch);
    const ModelInput for_teacher = teacher_input(*teacher, prepared, positions);
    if (!cache_path_.empty()) {
      add_cached(batch, prepared, for_teacher, *teacher, Ranks(context.communicator));
    } else {
      if (for_teacher.positions.defined()) batch.others.emplace_back(kTeacherPositions, for_teacher.positions);
      if (for_teacher.token_type_ids.defined()) batch.others.emplace_back(kTeacherTypes, for_teacher.token_type_ids);
    }
    batch.others.emplace_back(kTokenWeights, token_weights(prepared));
    return batch;
  }

  std::vector<int64_t> count_targets(const Batch& prepared, const Model& model) const override {
    const std::vector<int64_t> inner = inner_->count_targets(student_batch(prepared), model);
    const Tensor* weights = prepared.find(kTokenWeights);
    if (weights == nullptr) return inner;
    const std::vector<float> tokens = weights->to_vector<float>();
    return {inner.at(0), inner.at(0), std::count(tokens.begin(), tokens.end(), 1.0f)};
  }

  std::vector<Variable> losses(Model& model, const Batch& rows, const std::vector<LossScale>& scales,
                               const ForwardContext& context) const override {
    const Tensor* weights = rows.find(kTokenWeights);
    if (weights == nullptr) return inner_->losses(model, rows, scales, context);
    const ModelInput input = model_input(student_batch(rows));
    const TokenPredictions student = model.predict_tokens(input, context);
    const Tensor& labels = target_labels(input);

    functions::LinearDistillationInputs inputs;
    inputs.weight = student.output.weight;
    inputs.bias = student.output.bias;
    inputs.temperature = static_cast<float>(temperature_);
    inputs.label_mix = static_cast<float>(label_mix_);
    inputs.soft_scale = times(soft_weight_, scales.at(0));
    inputs.hard_scale = times(hard_weight_, scales.at(1));
    if (const Tensor* tokens = rows.find(kTeacherTokens)) {
      inputs.teacher.tokens = *tokens;
      inputs.teacher.probabilities = *rows.find(kTeacherProbabilities);
      inputs.teacher.rest = *rows.find(kTeacherRest);
      const functions::DistillationLosses losses = functions::linear_distillation(student.features, labels, inputs);
      return {losses.soft, losses.hard, Variable()};
    }
    const TokenPredictions teacher = predict(*model.attached(key()), input_of_teacher(rows, input));
    inputs.teacher = {.hidden = teacher.features.value(), .weight = merged_weight(teacher.output.weight)};
    if (teacher.output.bias.defined()) inputs.teacher.bias = teacher.output.bias.value();
    const functions::DistillationLosses losses = functions::linear_distillation(student.features, labels, inputs);
    if (cosine_weight_ == 0.0) return {losses.soft, losses.hard, Variable()};
    Variable states = student.hidden;
    if (states.shape() != teacher.hidden.shape()) {
      states = functions::linear(states, {.weight = model.parameters().extra(kProjection)});
    }
    const Variable cosine = functions::cosine_distance(states, teacher.hidden.value().to(states.dtype()), *weights,
                                                       times(cosine_weight_, scales.at(2)));
    return {losses.soft, losses.hard, cosine};
  }

 private:
  static std::unique_ptr<Objective> make_inner(const JsonReader& section) {
    if (section.get<std::string>("type", "clm") == "distillation" || section.get<std::string>("type", "clm") == "rtd") {
      section.fail("type", "a teacher's predictions are tokens: mlm, clm, span_corruption and the like");
    }
    return make_objective(section);
  }

  void read_initialize(const JsonReader& section) {
    const Json& value = section.raw("initialize");
    if (value.is_array()) {
      layers_ = section.get<std::vector<int64_t>>("initialize", {}, at_least(0));
      initialize_ = !layers_.empty();
    } else {
      initialize_ = section.get_enum("initialize", "none", {"none", "every_second"}) == "every_second";
    }
  }

  std::string key() const { return concat("teacher ", teacher_, teacher_dtype_ ? dtype_name(*teacher_dtype_) : ""); }

  void check_pair(const Model& student, const Model& teacher) const {
    const ModelInfo &own = student.info(), &theirs = teacher.info();
    if (own.vocab_size != theirs.vocab_size) {
      throw UsageError(
          concat("teacher and student have different vocabularies: ", theirs.vocab_size, " tokens (", teacher_, "), ",
                 own.vocab_size, " tokens (the ", own.model_type, " model to be trained)"),
          "train the student with the teacher's tokenizer and vocab_size");
    }
    if (own.head != theirs.head) {
      throw UsageError(concat("the teacher, a ", theirs.architecture, " (", teacher_,
                              "), does not predict what the student, a ", own.architecture, ", learns"));
    }
    if (own.architecture == "BertForPreTraining") {
      throw UsageError("distillation has no next-sentence term, but the student is a BertForPreTraining",
                       "set architectures to [\"BertForMaskedLM\"]");
    }
  }

  /// Vocabularies of one size may still be different ones.
  void check_tokenizers(const std::string& own) const {
    if (own.empty() || !has_tokenizer(teacher_)) return;
    const Tokenizer mine = load_tokenizer(own), theirs = load_tokenizer(teacher_);
    for (int64_t id = 0; id < std::max(mine.vocab_size(), theirs.vocab_size()); ++id) {
      const auto text = [id](const Tokenizer& tokenizer) {
        return id < tokenizer.vocab_size() ? quoted_name(tokenizer.id_to_token(static_cast<int32_t>(id))) : "no token";
      };
      if (text(mine) == text(theirs)) continue;
      throw UsageError(concat("teacher and student have different vocabularies: token ", id, " is ", text(theirs), " (",
                              teacher_, "), ", text(mine), " (", own, ")"),
                       "train the student with the teacher's tokenizer");
    }
  }

  /// 1 for each token that is no padding, or for each target of a decoder.
  static Tensor token_weights(const ModelInput& input) {
    const bool decodes = input.decoder_input_ids.defined();
    const Tensor& tokens = decodes ? input.decoder_input_ids : input.input_ids;
    std::vector<float> weights(static_cast<size_t>(tokens.numel()), 1.0f);
    if (decodes) {
      const std::vector<int32_t> labels = input.labels.to_vector<int32_t>();
      for (size_t i = 0; i < weights.size(); ++i) weights[i] = labels[i] == kIgnoreIndex ? 0.0f : 1.0f;
    } else if (input.attention_mask.defined()) {
      const std::vector<uint8_t> mask = input.attention_mask.to_vector<uint8_t>();
      for (size_t i = 0; i < weights.size(); ++i) weights[i] = mask[i] != 0 ? 1.0f : 0.0f;
    }
    return Tensor::from_vector(weights, tokens.shape());
  }

  /// The student's input, completed as the teacher needs it. `positions` are those that the samples had.
  static ModelInput teacher_input(const Model& teacher, const ModelInput& prepared, const Tensor& positions) {
    ModelInput input;
    input.input_ids = prepared.input_ids;
    input.attention_mask = prepared.attention_mask;
    input.documents = prepared.documents;
    input.decoder_input_ids = prepared.decoder_input_ids;
    input.decoder_attention_mask = prepared.decoder_attention_mask;
    if (positions.defined() && positions.shape() == prepared.input_ids.shape()) input.positions = positions;
    const std::vector<InputSpec> specs = teacher.inputs();
    const auto takes_types = [](const InputSpec& spec) { return spec.name == "token_type_ids"; };
    if (std::any_of(specs.begin(), specs.end(), takes_types)) input.token_type_ids = prepared.token_type_ids;
    return teacher.prepare(std::move(input), "data");
  }

  static ModelInput input_of_teacher(const Batch& rows, const ModelInput& student) {
    ModelInput input = student;
    input.labels = {};
    input.token_type_ids = {};
    if (const Tensor* positions = rows.find(kTeacherPositions)) input.positions = *positions;
    if (const Tensor* types = rows.find(kTeacherTypes)) input.token_type_ids = *types;
    return input;
  }

  static TokenPredictions predict(Model& teacher, const ModelInput& input) {
    const NoGrad no_grad;
    return teacher.predict_tokens(input, {});
  }

  /// Labels of the rows that predict_tokens gives.
  static const Tensor& target_labels(const ModelInput& input) {
    return input.target_positions.defined() ? input.target_labels : input.labels;
  }

  TeacherCacheSettings cache_settings(const Model& teacher) const {
    TeacherCacheSettings settings;
    settings.path = cache_path_;
    settings.vocab_size = teacher.info().vocab_size;
    settings.top_k = std::min(cache_top_k_, settings.vocab_size);
    settings.temperature = temperature_;
    settings.teacher = fingerprint(teacher);
    return settings;
  }

  TeacherCache& open_cache(const Model& teacher, const Ranks& ranks) const {
    if (cache_ == nullptr) {
      TeacherCacheSettings settings = cache_settings(teacher);
      settings.writes = ranks.first();
      ranks.one_by_one([&] { cache_ = std::make_unique<TeacherCache>(settings); });
    }
    return *cache_;
  }

  /// The teacher's predictions for all samples. What the cache does not know yet is dealt out to the ranks; all of them
  /// append it in the same order, so that their caches know the same.
  void add_cached(Batch& batch, const ModelInput& prepared, const ModelInput& for_teacher, Model& teacher,
                  const Ranks& ranks) const {
    TeacherCache& cache = open_cache(teacher, ranks);
    const Tensor& labels = target_labels(prepared);  // in the order of prepared.labels
    const int64_t samples = labels.size(0), length = labels.size(1), kept = cache.top_k();
    std::vector<int32_t> tokens(static_cast<size_t>(samples * length * kept));
    std::vector<float> probabilities(tokens.size()), rest(static_cast<size_t>(samples * length));
    const std::vector<int32_t> label_values = labels.to_vector<int32_t>();
    ModelInput keyed = for_teacher;
    keyed.labels = prepared.labels;
    const auto targets_of = [&](int64_t b) {
      const auto first = label_values.begin() + b * length;
      return static_cast<uint32_t>(length - std::count(first, first + length, kIgnoreIndex));
    };
    std::vector<TeacherPredictions> known(static_cast<size_t>(samples));
    std::vector<uint64_t> keys;
    std::vector<bool> missing;
    for (int64_t b = 0; b < samples; ++b) {
      keys.push_back(content_hash(keyed, b));
      missing.push_back(!cache.find(keys.back(), known[static_cast<size_t>(b)]));
    }
    std::vector<int64_t> parts;  // the first samples of those that are computed
    for (int64_t begin = 0; begin < samples; begin += kCacheSamples) {
      const auto first = missing.begin() + begin, last = missing.begin() + std::min(begin + kCacheSamples, samples);
      if (std::find(first, last, true) != last) parts.push_back(begin);
    }
    const auto round = static_cast<size_t>(ranks.size());
    std::string own;
    for (size_t part = static_cast<size_t>(ranks.rank()); part < parts.size(); part += round) {
      const int64_t count = std::min(kCacheSamples, samples - parts[part]);
      for (const auto& fresh : compute(teacher, for_teacher, prepared.labels, parts[part], count, kept)) {
        own += bytes_of(fresh);
      }
    }
    if (!parts.empty()) {
      const std::vector<std::string> computed = ranks.gather(own);
      std::vector<std::string_view> left(computed.begin(), computed.end());
      std::unordered_set<uint64_t> appended;
      for (size_t part = 0; part < parts.size(); ++part) {
        for (int64_t b = parts[part]; b < std::min(parts[part] + kCacheSamples, samples); ++b) {
          TeacherPredictions fresh = take_predictions(left[part % round], targets_of(b), kept);
          const auto at = static_cast<size_t>(b);
          if (!missing[at]) continue;
          if (appended.insert(keys[at]).second) cache.append(keys[at], fresh);
          known[at] = std::move(fresh);
        }
      }
      ranks.meet();  // the file has them when somebody looks for them
    }
    for (int64_t b = 0; b < samples; ++b) {
      const TeacherPredictions& from = known[static_cast<size_t>(b)];
      size_t target = 0;
      for (int64_t t = 0; t < length; ++t) {
        const int64_t place = b * length + t;
        if (label_values[static_cast<size_t>(place)] == kIgnoreIndex) continue;
        ONDOL_CHECK(target < from.rest.size(), "the cache has predictions for fewer targets (", cache_path_, ")");
        const auto at = static_cast<std::ptrdiff_t>(target) * kept;
        std::copy_n(from.tokens.begin() + at, kept, tokens.begin() + place * kept);
        std::copy_n(from.probabilities.begin() + at, kept, probabilities.begin() + place * kept);
        rest[static_cast<size_t>(place)] = from.rest[target++];
      }
    }
    batch.others.emplace_back(kTeacherTokens, Tensor::from_vector(tokens, {samples, length, kept}));
    batch.others.emplace_back(kTeacherProbabilities, Tensor::from_vector(probabilities, {samples, length, kept}));
    batch.others.emplace_back(kTeacherRest, Tensor::from_vector(rest, {samples, length}));
  }

  /// For each sample the likeliest tokens of its targets, at the temperature.
  std::vector<TeacherPredictions> compute(Model& teacher, const ModelInput& input, const Tensor& labels, int64_t begin,
                                          int64_t count, int64_t kept) const {
    ModelInput part = input;
    for (const std::string& name : ModelInput::names()) {
      Tensor& tensor = *part.find(name);
      if (tensor.defined()) tensor = tensor.narrow(0, begin, count);
    }
    if (part.documents.defined()) part.documents = part.documents.narrow(0, begin, count);
    const std::vector<int32_t> values = labels.narrow(0, begin, count).to_vector<int32_t>();
    std::vector<int32_t> rows;
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i] != kIgnoreIndex) rows.push_back(static_cast<int32_t>(i));
    }
    std::vector<TeacherPredictions> predictions(static_cast<size_t>(count));
    if (rows.empty()) return predictions;
    const auto targets = static_cast<int64_t>(rows.size());
    const TokenPredictions scores = predict(teacher, part.to(teacher.device()));
    const Tensor weight = merged_weight(scores.output.weight), all_features = scores.features.value().contiguous();
    const Tensor features = ops::embedding(all_features.reshape({labels.size(1) * count, weight.size(1)}),
                                           Tensor::from_vector(rows, {targets}, teacher.device()));
    for (int64_t first = 0; first < targets; first += kCacheRows) {
      const int64_t size = std::min(kCacheRows, targets - first);
      const Tensor logits = Tensor::empty({size, weight.size(0)}, DType::f32, teacher.device());
      ops::matmul_into(logits, features.narrow(0, first, size), weight.transpose(0, 1), false);
      if (scores.output.bias.defined()) {
        ops::accumulate(logits, scores.output.bias.value().to(DType::f32).expand(logits.shape()));
      }
      const std::vector<float> all =
          ops::softmax(ops::scale(logits, static_cast<float>(1.0 / temperature_))).to_vector<float>();
      for (int64_t r = 0; r < size; ++r) {
        const int64_t sample = rows[static_cast<size_t>(first + r)] / labels.size(1);
        keep_likeliest(all.data() + r * weight.size(0), weight.size(0), kept, predictions[static_cast<size_t>(sample)]);
      }
    }
    return predictions;
  }

  static void keep_likeliest(const float* probabilities, int64_t vocab_size, int64_t kept, TeacherPredictions& target) {
    std::vector<int32_t> order(static_cast<size_t>(vocab_size));
    for (size_t v = 0; v < order.size(); ++v) order[v] = static_cast<int32_t>(v);
    std::partial_sort(order.begin(), order.begin() + kept, order.end(), [&](int32_t a, int32_t b) {
      return probabilities[a] != probabilities[b] ? probabilities[a] > probabilities[b] : a < b;
    });
    for (int64_t k = 0; k < kept; ++k) {
      target.tokens.push_back(order[static_cast<size_t>(k)]);
      target.probabilities.push_back(probabilities[order[static_cast<size_t>(k)]]);
    }
    double rest = 0.0;
    for (int64_t k = kept; k < vocab_size; ++k)
      rest += static_cast<double>(probabilities[order[static_cast<size_t>(k)]]);
    target.rest.push_back(static_cast<float>(rest));
  }

  std::unique_ptr<Objective> inner_;
  std::string teacher_;
  std::optional<DType> teacher_dtype_;
  double temperature_, soft_weight_, hard_weight_, cosine_weight_, label_mix_;
  bool initialize_ = false;
  std::vector<int64_t> layers_;  // empty: every second one
  std::string cache_path_;
  int64_t cache_top_k_;
  mutable std::unique_ptr<TeacherCache> cache_;
};

}  // namespace

std::unique_ptr<Objective> objectives::make_distillation(const JsonReader& section) {
  return std::make_unique<Distillation>(section);
}

}  // namespace ondol
