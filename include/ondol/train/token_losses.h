// Losses on log-probabilities of tokens that are known already, as fine-tuning and policy gradients use them.
//
//   const Variable log_probs = token_log_probs(logits, ids);                     // (B, T)
//   const Variable loss = sft_loss(log_probs, response_mask, {.constant = 512.0, .accumulation_steps = 4});
//
// Masks have the shape of what they mask and are f32: 1 where an element counts, 0 elsewhere. A dimension is dropped by
// the sum over it; without a dimension all elements are summed (shape (1)).
#pragma once

#include <cstdint>
#include <optional>

#include <ondol/autograd/variable.h>

namespace ondol {

/// logits (B, T, V), ids (B, T) i32 -> (B, T): the log-probability of each id.
Variable token_log_probs(const Variable& logits, const Tensor& ids);

/// Of the distributions softmax(logits): (.., V) -> (..), in nats.
Tensor token_entropy(const Tensor& logits);

/// The sum of what counts, divided by a constant.
Variable masked_normalize(const Variable& x, const Tensor& mask, double constant, std::optional<int> dim = {});
/// The mean of what counts; not a number where nothing does.
Variable masked_mean(const Variable& x, const Tensor& mask, std::optional<int> dim = {});

struct SftLossOptions {
  double constant = 1.0;           // what the sum over a sequence is divided by
  int64_t accumulation_steps = 1;  // micro-batches whose gradients are added
};
/// The mean over sequences of -masked_normalize(log_probs, mask), divided by the accumulation steps: (B, T) -> (1).
Variable sft_loss(const Variable& log_probs, const Tensor& response_mask, const SftLossOptions& options = {});

}  // namespace ondol
