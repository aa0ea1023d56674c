// A decoder with its cache, forward by forward.
//
//   KvCache cache = model.make_cache(batch, capacity);
//   Decoder decoder(model, cache);
//   Tensor logits = decoder.step({prompt, other_prompt});     // one or more tokens for each row
//   logits = decoder.step({{&next, 1}, {}});                  // a row that has ended brings none
//
// A step in which no row brings more than one token does the same work each time, but for what it reads from tensors
// that keep their place (tokens, positions, lengths of the cache): it is captured once and replayed
// (tensor/step_graph.h), and captured anew when the reach of the cache grows.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include <ondol/models/model.h>

#include "tensor/step_graph.h"

namespace ondol {

/// What the decoder reads before it makes tokens: the prompt, or the start token where an encoder reads the prompt.
/// Throws UsageError when the model names no start token.
std::vector<int32_t> decoder_prompt(const Model& model, std::span<const int32_t> prompt);

/// Beside an encoder: reads the prompts and leaves in the cache what decoding needs of them. Nothing to do otherwise.
void encode_sources(Model& model, const std::vector<std::span<const int32_t>>& sources, KvCache& cache);

class Decoder {
 public:
  using Finish = std::function<void(const Tensor& logits)>;

  /// `finish` gets the logits (B, V) of each step as part of it: what StepGraph asks of a body holds for it.
  Decoder(Model& model, KvCache& cache, Finish finish = {});

  /// Feeds tokens[b] to each row and returns the logits (B, V) behind each row's last one; those of an ended row mean
  /// nothing. They stay until the next step.
  Tensor step(const std::vector<std::span<const int32_t>>& tokens);

  /// Steps that were replays of captured work.
  uint64_t replays() const { return graph_.replays(); }

 private:
  Tensor last_logits(const Tensor& hidden, const std::vector<int32_t>& counts) const;

  Model& model_;
  KvCache& cache_;
  const Finish finish_;
  Tensor ids_;  // (B, 1), of a step that may be captured
  Tensor logits_;
  StepGraph graph_;  // goes first: nothing that it writes to is freed before it
};

}  // namespace ondol
