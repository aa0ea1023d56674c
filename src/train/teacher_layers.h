// First values of a student from a deeper teacher (Sanh et al. 2019): some of its layers, its embeddings and its head.
//
//   copy_teacher_layers(*student, *teacher, {0, 2, 4});       // student layer i takes the teacher's layer layers[i]
//   copy_teacher_layers(*student, *teacher, {});              // every second one: 0, 2, 4, ...
#pragma once

#include <cstdint>
#include <vector>

#include <ondol/models/model.h>

namespace ondol {

/// Tensors are found by the names of the models' files; those of DistilBERT have their counterparts in BERT. In
/// encoder-decoders `layers` holds for both stacks. Throws UsageError naming the first tensor that the teacher has not
/// or has in another shape, and when the numbers of layers do not fit.
void copy_teacher_layers(const Model& student, const Model& teacher, const std::vector<int64_t>& layers);

}  // namespace ondol
