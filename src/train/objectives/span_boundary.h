// SpanBERT's boundary objective (Joshi et al. 2020, section 3.2): each token x_i of a masked span (s ... e) is
// predicted from the states beside the span and its place in it alone,
//
//   h = [state_{s-1}; state_{e+1}; p_{i-s+1}]       p: a learned embedding of the place
//   y = norm(gelu(W2 norm(gelu(W1 h))))             scores as those of the masked language model: y words^T + b
//
// Its own parameters are extras of the training ("objective.boundary. ..."): they are no part of the model's files.
#pragma once

#include <ondol/train/objective.h>

namespace ondol {

/// Masked tokens [begin, end) of the flat (B T) tokens of a batch.
struct MaskedSpan {
  int64_t begin, end;
};

class SpanBoundaryObjective {
 public:
  /// Places of spans up to `max_span` tokens have an embedding each; longer spans share the last one.
  explicit SpanBoundaryObjective(int64_t max_span) : max_span_(max_span) {}

  void extend(Model& model) const;

  /// Adds boundary_left, boundary_right, boundary_place and boundary_labels (B, K) i32 to a prepared batch: for up to K
  /// tokens of each row's spans the positions beside their span, their place in it, and the token (-100 behind the last
  /// one). Spans at the ends of a row or beside padding have no boundary and are left out.
  void add_targets(const std::vector<MaskedSpan>& spans, const std::vector<int32_t>& tokens, int64_t capacity,
                   Batch& batch) const;

  /// Takes what add_targets added out of a batch again.
  struct Targets {
    Tensor left, right, place, labels;
  };
  static Targets take_targets(Batch& batch);

  /// scale times the sum over the targets; `states` (B, T, C) and `output` are those of the model.
  Variable loss(const Model& model, const Variable& states, const OutputProjection& output, const Targets& targets,
                const LossScale& scale) const;

 private:
  int64_t max_span_;
};

}  // namespace ondol
