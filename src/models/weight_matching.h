// Which tensor of a file is which weight of a model.
#pragma once

#include <string>
#include <vector>

#include "models/family.h"
#include "models/weight_source.h"

namespace ondol {

/// The source's name for each of model.weights(), "" for a buffer that it leaves out and, with a fresh head, for the
/// head's weights (all that is not below the backbone's prefix, and a pooler that the source has not); whatever head the
/// source has is then left aside. The model need not have been
/// allocated. Every tensor is checked: missing and unexpected ones, shapes, types and copies of tied weights throw
/// naming tensor and file.
std::vector<std::string> match_weights(const FamilyModel& model, const WeightSource& file, bool fresh_head = false);

}  // namespace ondol
