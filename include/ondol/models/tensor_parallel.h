// Tensor parallelism: a model whose matrices are split over the ranks of a group (Shoeybi et al. 2019), heads and inner
// columns of MLPs shared out; norms, embeddings and output projection are whole in every rank, which computes them for
// its own rows of tokens (Korthikanti et al. 2022).
//
//   auto model = load_model(path, {.extend = [&](Model& model) { split_model(model, {rank, ranks, group}); }});
//   tape.backward(total_loss(model->losses(input, scales, context)));     // all ranks of the group, with the same
//   input
//
// The loss of a rank is that of its own rows: their sum over the group is the loss. So are gradients of what every rank
// holds whole (ParameterStore::split_begin); those of the split parameters are complete. A model directory is read and
// drawn as for one process, each rank taking its part. What a split model cannot do (decode with a cache, scores of
// tokens) throws.
#pragma once

#include <ondol/models/model.h>

namespace ondol {

class Communicator;

/// Which part of a model a process holds.
struct TensorPlace {
  int rank = 0, ranks = 1;
  Communicator* group = nullptr;  // of `ranks`, outlives the model; null: for a look at sizes alone
  int copies = 1, copy = 0;       // processes of the job with the same part, and the place of this one among them
};

/// Before the parameters get memory. Throws UsageError naming the family, or the key of its configuration, that cannot
/// be split over so many ranks.
void split_model(Model& model, const TensorPlace& place);

}  // namespace ondol
