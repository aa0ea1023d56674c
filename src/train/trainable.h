// Which parameters of a model a run trains.
#pragma once

#include <ondol/models/model.h>
#include <ondol/train/config.h>

namespace ondol {

/// Before the model gets memory. Throws UsageError when a pattern matches nothing, only a part of what the model keeps
/// as one matrix (query, key and value), or when nothing is left to train.
void choose_trainable(Model& model, const TrainConfig::Freeze& freeze);

}  // namespace ondol
