#include <ondol/generate/perplexity.h>

#include <algorithm>
#include <utility>

#include <ondol/autograd/functions.h>

namespace ondol {

namespace {

/// Windows that are one forward: rows of inputs with the target of each position, -100 where another window predicts
/// it.
struct Windows {
  std::vector<int32_t> ids, labels;
  int64_t rows = 0, targets = 0;
};

double run_windows(Model& model, const Windows& windows, int64_t length) {
  const Shape shape{windows.rows, length};
  ModelInput input;
  input.input_ids = Tensor::from_vector(windows.ids, shape);
  input.labels = Tensor::from_vector(windows.labels, shape);
  input.labels_shifted = true;
  input = model.prepare(std::move(input), "text").to(model.device());
  const NoGrad no_grad;
  const OutputProjection output = model.output_projection();
  const Tensor hidden = model.hidden(input, {}).value();
  functions::LinearCrossEntropyInputs loss;
  loss.weight = output.weight;
  loss.bias = output.bias;
  return functions::linear_cross_entropy(Variable(hidden), input.labels, loss).value().item();
}

}  // namespace

PerplexityResult perplexity(Model& model, std::span<const int32_t> ids, const PerplexityOptions& options) {
  if (model.info().head != Head::causal_language_model) {
    throw UsageError(concat("perplexity needs a model that predicts the next token of a text, not a ",
                            model.info().model_type, " model (", model.info().architecture, ")"));
  }
  const int64_t positions = model.info().max_positions;
  const int64_t window = options.window == 0 ? positions : options.window;
  const int64_t stride = options.stride == 0 ? window : options.stride;
  if (window < 1 || window > positions) {
    throw UsageError(concat("a window of ", window, " tokens does not fit the model's ", positions, " positions"));
  }
  if (stride < 1 || stride > window)
    throw UsageError(concat("a stride of ", stride, " does not fit a window of ", window));
  if (options.batch < 1) throw UsageError(concat("batch must be at least 1, got ", options.batch));
  const int64_t count = static_cast<int64_t>(ids.size());
  ONDOL_CHECK(count >= 2, "cannot measure perplexity: the text has ", count, " tokens, two are the least");

  const int64_t length = std::min(window, count - 1);
  PerplexityResult result;
  Windows windows;
  int64_t next_target = 1;  // the first token that no window has predicted
  for (int64_t begin = 0; next_target < count; begin += stride) {
    // The last windows move back so that all have the same length; what was predicted before is not counted again.
    const int64_t start = std::min(begin, count - 1 - length);
    for (int64_t t = 0; t < length; ++t) {
      const int64_t target = start + t + 1;
      windows.ids.push_back(ids[static_cast<size_t>(target - 1)]);
      windows.labels.push_back(target >= next_target ? ids[static_cast<size_t>(target)] : kIgnoreIndex);
      windows.targets += target >= next_target;
    }
    next_target = start + length + 1;
    if (++windows.rows == options.batch || next_target >= count) {
      result.log_likelihood_loss += run_windows(model, windows, length);
      result.tokens += windows.targets;
      windows = {};
    }
  }
  return result;
}

}  // namespace ondol
