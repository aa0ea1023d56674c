// Beam search as in transformers 5 (GenerationMixin._beam_search): the hypotheses and scores are the same.
//
//   std::vector<BeamHypothesis> best = beam_search(*model, prompt, {.num_beams = 4, .max_new_tokens = 32});
//
// The score of a hypothesis is the sum of the log-probabilities of its new tokens / (their number ^ length_penalty).
// Each step keeps max(2, 1 + end tokens) * num_beams candidates; only the first num_beams of them can finish. Without
// early stopping the search goes on while the best running beam, at its present length, could still pass the worst
// finished one; with it, it ends once num_beams hypotheses have finished.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include <ondol/models/model.h>

namespace ondol {

struct BeamSearchOptions {
  int64_t num_beams = 4;
  int64_t max_new_tokens = 128;
  double length_penalty = 1.0;
  bool early_stopping = false;
  float repetition_penalty = 1.0f;  // on log-probabilities, see sampling.h
  std::vector<int32_t> eos_token_ids;
  /// Further stop condition over the new tokens (stop strings), optional.
  std::function<bool(std::span<const int32_t>)> stops;
};

struct BeamHypothesis {
  std::vector<int32_t> tokens;  // new ones, with the end token
  double score = 0.0;
  bool stopped = false;  // by an end token or `stops`, not by max_new_tokens
};

/// All num_beams hypotheses, best first. The model's token rules (models/model.h) hold. Beside an encoder the prompt is
/// the source. What the decoder reads and max_new_tokens must fit the model's positions.
std::vector<BeamHypothesis> beam_search(Model& model, std::span<const int32_t> prompt,
                                        const BeamSearchOptions& options);

}  // namespace ondol
