#include "train/tensor_sums.h"

#include <ondol/distributed/communicator.h>

namespace ondol {

void add_up_shared_gradients(const Model& model, const Tensor& gradients) {
  Communicator* const group = model.tensor_group();
  if (group == nullptr) return;
  const int64_t begin = model.parameters().split_begin(), end = model.parameters().split_end();
  const CommEvent matrices = group->all_reduce(gradients.narrow(0, 0, begin));
  group->all_reduce(gradients.narrow(0, end, gradients.numel() - end)).wait();
  matrices.wait();
}

void keep_own_squares(const Model& model, const Tensor& squares) {
  if (model.tensor_group() == nullptr || model.tensor_group()->rank() == 0) return;
  const int64_t begin = model.parameters().split_begin() / ParameterStore::kBlock;
  const int64_t end = model.parameters().split_end() / ParameterStore::kBlock;  // both are whole blocks
  squares.narrow(0, 0, begin).zero();
  squares.narrow(0, end, squares.numel() - end).zero();
}

void add_up_in_group(const Model& model, const Tensor& values) {
  if (model.tensor_group() != nullptr) model.tensor_group()->all_reduce(values).wait();
}

void add_up_in_group(const Model& model, std::vector<double>& values) {
  if (model.tensor_group() == nullptr) return;
  const Tensor sums = Tensor::from_vector(values, {static_cast<int64_t>(values.size())}, model.device());
  model.tensor_group()->all_reduce(sums).synchronize();
  values = sums.to_vector<double>();
}

}  // namespace ondol
