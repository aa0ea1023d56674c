// How well a causal model predicts a text: sliding windows over its tokens.
//
//   PerplexityResult r = perplexity(*model, ids, {.window = 512, .stride = 256});
//   double value = std::exp(r.loss());
//
// Every token but the first is predicted exactly once, from at least window - stride tokens before it where there are
// so many. A window takes `window` tokens in; the next one begins `stride` further on.
#pragma once

#include <cstdint>
#include <span>

#include <ondol/models/model.h>

namespace ondol {

struct PerplexityOptions {
  int64_t window = 0;  // 0: the model's positions
  int64_t stride = 0;  // 0: the window, so that windows touch
  int64_t batch = 8;   // windows of one forward
};

struct PerplexityResult {
  double log_likelihood_loss = 0.0;  // sum of -log p in nats
  int64_t tokens = 0;                // predicted ones
  double loss() const { return log_likelihood_loss / static_cast<double>(tokens); }
};

/// Throws UsageError when window or stride do not fit the model, Error for fewer than two tokens.
PerplexityResult perplexity(Model& model, std::span<const int32_t> ids, const PerplexityOptions& options = {});

}  // namespace ondol
