// Metrics of heads that give labels or values, for sequences or for each token.
#pragma once

#include <memory>

#include <ondol/train/evaluator.h>

namespace ondol {

/// By the model's head:
///   one label        accuracy, f1 (two labels: of the second one) or macro_f1, matthews_correlation
///   several at once  micro_f1, macro_f1, subset_accuracy; a label holds from probability 0.5 on
///   a value          pearson, spearman, mean_squared_error
///   tokens           f1, precision, recall of entities, accuracy of tokens; without "B-..." labels accuracy, macro_f1
/// report() has figures of each label. The loss is computed from the logits in double precision.
std::unique_ptr<Evaluator> make_label_evaluator(const EvaluatorContext& context);

}  // namespace ondol
