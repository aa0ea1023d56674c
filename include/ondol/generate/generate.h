// Text from a language model that predicts the next token: a decoder continues the prompt, an encoder-decoder turns it
// into another text. The rules of the model's generation_config.json hold (TokenRules in models/model.h).
//
//   std::string text = generate(*model, tokenizer, "Once upon a time", {.max_new_tokens = 64});
//   GenerateOptions options{.sampling = {.temperature = 0.8f}, .stop = {"\n\n"}};
//   options.on_text = [](size_t, const std::string& piece) { std::cout << piece << std::flush; };
//   std::vector<GenerateResult> results = generate_ids(*model, {{5, 17, 2}, {8}}, options, &tokenizer);
//
// The prompts of one call run as one batch of rows with their own lengths: padding is neither stored nor seen, and a
// prompt gives the same tokens alone or in any batch. Prompt and new tokens together never pass the positions the model
// was made for: the sequence then ends with finish_reason length.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <ondol/generate/sampling.h>
#include <ondol/models/model.h>
#include <ondol/tokenizer/tokenizer.h>

namespace ondol {

enum class FinishReason {
  stop,   // an end token or a stop string
  length  // max_new_tokens, or the model's last position
};
/// "stop" or "length".
const char* to_string(FinishReason reason);

struct GenerateOptions {
  int64_t max_new_tokens = 128;
  SamplingOptions sampling;
  bool ignore_eos = false;
  std::vector<int32_t> eos_token_ids;  // empty: those of the model
  std::vector<std::string> stop;       // end before the first of these in the new text; needs a tokenizer

  /// More than one: beam search (beam_search.h), which does not sample and calls back at the end.
  int64_t num_beams = 1;
  double length_penalty = 1.0;
  bool early_stopping = false;

  /// Called with the index of the prompt, for each new token, and for new text as soon as it is certain: whole
  /// characters, nothing that may turn out to begin a stop string.
  std::function<void(size_t, int32_t)> on_token;
  std::function<void(size_t, const std::string&)> on_text;
};

struct GenerateResult {
  std::vector<int32_t> tokens;  // new ones, with the end token
  std::string text;             // of the new tokens without special ones and before a stop string; needs a tokenizer
  FinishReason finish_reason = FinishReason::length;
  int64_t prompt_tokens = 0;
  double seconds_prefill = 0.0;  // of the whole batch: prompts and first tokens
  double seconds_decode = 0.0;   // of the whole batch: the tokens after the first
};

/// Throws UsageError for an empty prompt, an id outside the vocabulary, a prompt that fills all positions, or
/// impossible options.
std::vector<GenerateResult> generate_ids(Model& model, const std::vector<std::vector<int32_t>>& prompts,
                                         const GenerateOptions& options, const Tokenizer* tokenizer = nullptr);

/// The ids of a prompt as generate() takes them: encoded with special tokens; an empty prompt becomes the begin token.
std::vector<int32_t> encode_prompt(const Model& model, const Tokenizer& tokenizer, const std::string& prompt);

/// The text that continues the prompt.
std::string generate(Model& model, const Tokenizer& tokenizer, const std::string& prompt,
                     const GenerateOptions& options = {});

}  // namespace ondol
