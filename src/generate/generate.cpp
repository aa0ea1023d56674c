#include <ondol/generate/generate.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include <ondol/generate/beam_search.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/sampling.h>

#include "generate/decode_step.h"
#include "generate/text_stream.h"
#include "generate/token_rules.h"
#include "tensor/transfer.h"

namespace ondol {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void check_request(const Model& model, const std::vector<std::vector<int32_t>>& prompts, const GenerateOptions& options,
                   const Tokenizer* tokenizer) {
  model.output_projection();  // there is one, or generation is refused
  check_sampling_options(options.sampling);
  if (options.max_new_tokens < 1) {
    throw UsageError(concat("max_new_tokens must be at least 1, got ", options.max_new_tokens));
  }
  if (!options.stop.empty() && tokenizer == nullptr) throw UsageError("stop strings need a tokenizer");
  for (const std::string& stop : options.stop) {
    if (stop.empty()) throw UsageError("a stop string must not be empty");
  }
  if (!std::isfinite(options.length_penalty)) {
    throw UsageError(concat("length_penalty must be a finite number, got ", options.length_penalty));
  }
  if (options.num_beams != 1 && options.sampling.temperature > 0.0f) {
    throw UsageError("beam search does not sample", "leave out the temperature or the beams");
  }
  const ModelInfo& info = model.info();
  const bool encoded = info.head == Head::sequence_to_sequence;
  const int64_t most = encoded ? info.max_source_positions : info.max_positions - 1;
  const int64_t vocab_size = encoded ? info.source_vocab_size : info.vocab_size;
  for (const std::vector<int32_t>& prompt : prompts) {
    if (prompt.empty()) throw UsageError("the prompt is empty");
    if (static_cast<int64_t>(prompt.size()) > most) {
      if (encoded) {
        throw UsageError(concat("a source of ", prompt.size(), " tokens is too long: the model allows ", most));
      }
      throw UsageError(concat("a prompt of ", prompt.size(), " tokens leaves no room: the model allows ",
                              info.max_positions, " positions"));
    }
    for (const int32_t id : prompt) {
      if (id < 0 || id >= vocab_size) {
        throw UsageError(concat("token id ", id, " is outside the model's vocabulary of ", vocab_size));
      }
    }
  }
}

/// One sequence in the making.
class Sequence {
 public:
  /// `read`: what the decoder reads first.
  Sequence(size_t index, std::vector<int32_t> read, int64_t limit, const GenerateOptions& options)
      : index_(index),
        ids_(std::move(read)),
        read_(static_cast<int64_t>(ids_.size())),
        limit_(limit),
        options_(options) {}

  /// `before`: what the new text continues.
  void spell(const Tokenizer& tokenizer, std::span<const int32_t> before) {
    text_ = std::make_unique<TextStream>(tokenizer, before, options_.stop);
  }

  bool done() const { return done_; }
  std::span<const int32_t> last() const { return {&ids_.back(), 1}; }

  /// As the rules of the model's generation configuration see it.
  TokenRulesContext rules_context(const std::vector<int32_t>& eos) const { return {ids_, read_, read_ + limit_, eos}; }
  int64_t steps() const { return static_cast<int64_t>(result_.tokens.size()); }

  void push(int32_t id, const std::vector<int32_t>& eos) {
    ids_.push_back(id);
    result_.tokens.push_back(id);
    if (options_.on_token) options_.on_token(index_, id);
    const bool ended = std::find(eos.begin(), eos.end(), id) != eos.end();
    if (text_ != nullptr && !ended) emit(text_->push(id));
    if (ended || (text_ != nullptr && text_->stopped())) return end(FinishReason::stop);
    if (static_cast<int64_t>(result_.tokens.size()) >= limit_) end(FinishReason::length);
  }

  GenerateResult result(size_t prompt_tokens) && {
    result_.prompt_tokens = static_cast<int64_t>(prompt_tokens);
    if (text_ != nullptr) result_.text = text_->text();
    return std::move(result_);
  }

 private:
  void end(FinishReason reason) {
    done_ = true;
    result_.finish_reason = reason;
    if (text_ == nullptr) return;
    emit(text_->finish());
    if (text_->stopped()) result_.finish_reason = FinishReason::stop;
  }
  void emit(const std::string& piece) const {
    if (!piece.empty() && options_.on_text) options_.on_text(index_, piece);
  }

  size_t index_;
  std::vector<int32_t> ids_;
  int64_t read_, limit_;
  const GenerateOptions& options_;
  std::unique_ptr<TextStream> text_;
  GenerateResult result_;
  bool done_ = false;
};

/// Draws the next token of every row as the end of a decoding step; what it reads stands in tensors that keep their
/// place.
class TokenChoice {
 public:
  /// `prompts`: what the decoder reads first, `capacity`: tokens of a row, with its prompt.
  TokenChoice(const SamplingOptions& sampling, const std::vector<std::vector<int32_t>>& prompts, int64_t capacity,
              const std::vector<int32_t>& eos, const Model& model)
      : sampling_(sampling), rules_(model.info().token_rules), eos_(eos) {
    const Device device = model.device();
    const int64_t batch = static_cast<int64_t>(prompts.size());
    if (rules_.any()) forbidden_ = Tensor::zeros({batch, model.info().vocab_size}, model.dtype(), device);
    tokens_ = Tensor::zeros({batch}, DType::i32, device);
    inputs_.steps = Tensor::zeros({batch}, DType::i64, device);
    if (sampling_.repetition_penalty == 1.0f) return;
    for (const auto& prompt : prompts) longest_ = std::max(longest_, static_cast<int64_t>(prompt.size()));
    // The tokens of a step stand in one column behind all prompts, so that they never come from the host.
    const int64_t columns = longest_ + capacity;
    std::vector<int32_t> history(static_cast<size_t>(batch * columns), kNoToken);
    for (size_t b = 0; b < prompts.size(); ++b) {
      std::copy(prompts[b].begin(), prompts[b].end(), history.begin() + static_cast<ptrdiff_t>(b) * columns);
    }
    inputs_.history = Tensor::from_vector(history, {batch, columns}, device);
  }

  void before_step(const std::vector<Sequence>& sequences) {
    const int64_t batch = static_cast<int64_t>(sequences.size());
    std::vector<int64_t> steps;
    for (const Sequence& sequence : sequences) steps.push_back(sequence.steps());
    upload(inputs_.steps, Tensor::from_vector(steps, {batch}));
    if (inputs_.history.defined() && taken_ > 0) {
      inputs_.history.narrow(1, longest_ + taken_ - 1, 1).copy_from(tokens_.reshape({batch, 1}));
    }
    ++taken_;
    if (forbidden_.defined()) upload_rules(sequences);
  }

  void choose(const Tensor& logits) const {
    const Tensor allowed = forbidden_.defined() ? ops::add(logits, forbidden_) : logits;
    tokens_.copy_from(ops::sample(allowed, sampling_, inputs_));
  }

  /// Gives each row that is not done its token; waits for the step.
  void after_step(std::vector<Sequence>& sequences) const {
    const std::vector<int32_t> tokens = tokens_.to_vector<int32_t>();
    for (size_t b = 0; b < sequences.size(); ++b) {
      if (sequences[b].done()) continue;
      check_sampled(tokens[b]);
      sequences[b].push(tokens[b], eos_);
    }
  }

 private:
  /// Puts 0 and -infinity in place; most steps of most models forbid nothing.
  void upload_rules(const std::vector<Sequence>& sequences) {
    const auto vocab_size = static_cast<size_t>(forbidden_.size(1));
    std::vector<float> scores(sequences.size() * vocab_size, 0.0f);
    bool changed = false;
    for (size_t b = 0; b < sequences.size(); ++b) {
      const std::span<float> row(&scores[b * vocab_size], vocab_size);
      if (!sequences[b].done()) changed |= apply_token_rules(rules_, sequences[b].rules_context(eos_), row);
    }
    if (changed || forbids_) upload(forbidden_, Tensor::from_vector(scores, forbidden_.shape()).to(forbidden_.dtype()));
    forbids_ = changed;
  }

  static constexpr int32_t kNoToken = -1;

  const SamplingOptions sampling_;
  const TokenRules rules_;
  const std::vector<int32_t> eos_;
  Tensor forbidden_;      // (B, V), added to the logits; undefined when there are no rules
  bool forbids_ = false;  // it is not 0
  int64_t longest_ = 0;   // prompt
  int64_t taken_ = 0;     // steps begun
  ops::SampleInputs inputs_;
  Tensor tokens_;
};

std::vector<GenerateResult> sample_batch(Model& model, const std::vector<std::vector<int32_t>>& prompts,
                                         const GenerateOptions& options, const std::vector<int32_t>& eos,
                                         const Tokenizer* tokenizer) {
  const bool encoded = model.info().head == Head::sequence_to_sequence;
  int64_t capacity = 0;
  std::vector<Sequence> sequences;
  std::vector<std::vector<int32_t>> reads;
  for (size_t b = 0; b < prompts.size(); ++b) {
    reads.push_back(decoder_prompt(model, prompts[b]));
    const int64_t length = static_cast<int64_t>(reads[b].size());
    const int64_t limit = std::min(options.max_new_tokens, model.info().max_positions - length);
    capacity = std::max(capacity, length + limit);
    Sequence& sequence = sequences.emplace_back(b, reads[b], limit, options);
    if (tokenizer != nullptr) sequence.spell(*tokenizer, encoded ? std::span<const int32_t>() : prompts[b]);
  }
  std::vector<std::span<const int32_t>> next(reads.begin(), reads.end());
  KvCache cache = model.make_cache(static_cast<int64_t>(prompts.size()), capacity);
  TokenChoice choice(options.sampling, reads, capacity, eos, model);
  Decoder decoder(model, cache, [&choice](const Tensor& logits) { choice.choose(logits); });
  const auto step = [&] {
    choice.before_step(sequences);
    decoder.step(next);
    choice.after_step(sequences);
  };
  const auto start = Clock::now();
  encode_sources(model, {prompts.begin(), prompts.end()}, cache);
  step();
  const double seconds_prefill = seconds_since(start);

  const auto decode_start = Clock::now();
  while (!std::all_of(sequences.begin(), sequences.end(), [](const Sequence& s) { return s.done(); })) {
    for (size_t b = 0; b < sequences.size(); ++b) {
      next[b] = sequences[b].done() ? std::span<const int32_t>() : sequences[b].last();
    }
    step();
  }
  const double seconds_decode = seconds_since(decode_start);

  std::vector<GenerateResult> results;
  for (size_t b = 0; b < sequences.size(); ++b) {
    results.push_back(std::move(sequences[b]).result(prompts[b].size()));
    results.back().seconds_prefill = seconds_prefill;
    results.back().seconds_decode = seconds_decode;
  }
  return results;
}

GenerateResult search_beams(Model& model, size_t index, const std::vector<int32_t>& prompt,
                            const GenerateOptions& options, const std::vector<int32_t>& eos,
                            const Tokenizer* tokenizer) {
  BeamSearchOptions beams;
  beams.num_beams = options.num_beams;
  beams.length_penalty = options.length_penalty;
  beams.early_stopping = options.early_stopping;
  beams.repetition_penalty = options.sampling.repetition_penalty;
  beams.eos_token_ids = eos;
  const bool encoded = model.info().head == Head::sequence_to_sequence;
  const auto read = static_cast<int64_t>(encoded ? 1 : prompt.size());
  beams.max_new_tokens = std::min(options.max_new_tokens, model.info().max_positions - read);
  const auto stream_of = [&](std::span<const int32_t> tokens) {
    TextStream stream(*tokenizer, encoded ? std::span<const int32_t>() : prompt, options.stop);
    for (const int32_t id : tokens) {
      if (std::find(eos.begin(), eos.end(), id) == eos.end()) stream.push(id);
    }
    return stream;
  };
  if (!options.stop.empty()) {
    beams.stops = [&](std::span<const int32_t> tokens) { return stream_of(tokens).stopped(); };
  }
  const auto start = Clock::now();
  BeamHypothesis best = std::move(beam_search(model, prompt, beams).front());
  GenerateResult result;
  result.prompt_tokens = static_cast<int64_t>(prompt.size());
  result.finish_reason = best.stopped ? FinishReason::stop : FinishReason::length;
  result.seconds_decode = seconds_since(start);
  result.tokens = std::move(best.tokens);
  if (tokenizer != nullptr) {
    TextStream stream = stream_of(result.tokens);
    stream.finish();
    result.text = stream.text();
  }
  if (options.on_token) {
    for (const int32_t id : result.tokens) options.on_token(index, id);
  }
  if (options.on_text) options.on_text(index, result.text);
  return result;
}

}  // namespace

const char* to_string(FinishReason reason) { return reason == FinishReason::stop ? "stop" : "length"; }

std::vector<GenerateResult> generate_ids(Model& model, const std::vector<std::vector<int32_t>>& prompts,
                                         const GenerateOptions& options, const Tokenizer* tokenizer) {
  check_request(model, prompts, options, tokenizer);
  if (prompts.empty()) return {};
  std::vector<int32_t> eos;
  if (!options.ignore_eos) eos = options.eos_token_ids.empty() ? model.info().eos_token_ids : options.eos_token_ids;
  if (options.num_beams == 1) return sample_batch(model, prompts, options, eos, tokenizer);
  std::vector<GenerateResult> results;
  for (size_t i = 0; i < prompts.size(); ++i) {
    results.push_back(search_beams(model, i, prompts[i], options, eos, tokenizer));
  }
  return results;
}

std::vector<int32_t> encode_prompt(const Model& model, const Tokenizer& tokenizer, const std::string& prompt) {
  std::vector<int32_t> ids = tokenizer.encode(prompt);
  if (!ids.empty()) return ids;
  std::optional<int32_t> begin = model.info().bos_token_id;
  if (!begin) begin = tokenizer.special_token_id("bos");
  if (!begin) throw UsageError("the prompt is empty and the model has no begin token");
  return {*begin};
}

std::string generate(Model& model, const Tokenizer& tokenizer, const std::string& prompt,
                     const GenerateOptions& options) {
  return std::move(generate_ids(model, {encode_prompt(model, tokenizer, prompt)}, options, &tokenizer).front().text);
}

}  // namespace ondol
