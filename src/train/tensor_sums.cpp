#include "train/tensor_sums.h"

#include <algorithm>
#include <utility>

#include <ondol/distributed/communicator.h>

namespace ondol {

void add_up_shared_gradients(const Model& model, const Tensor& gradients, const Sharding* sharding) {
  Communicator* const group = model.tensor_group();
  if (group == nullptr) return;
  const ParameterStore& store = model.parameters();
  std::vector<CommEvent> events;
  // Elements [begin, begin + length), which lie at `offset`, as far as all ranks of the group hold them whole.
  const auto add_up = [&](int64_t begin, int64_t length, int64_t offset) {
    const std::pair<int64_t, int64_t> shared[] = {{0, store.split_begin()},
                                                  {store.split_end(), store.trainable_elements()}};
    for (const auto& [first, last] : shared) {
      const int64_t from = std::max(begin, first), to = std::min(begin + length, last);
      if (from < to) events.push_back(group->all_reduce(gradients.narrow(0, offset + from - begin, to - from)));
    }
  };
  if (sharding == nullptr) {
    add_up(0, gradients.numel(), 0);
  } else {
    for (const ShardPart& part : sharding->layout().parts()) {
      add_up(part.begin, part.length, sharding->stage() >= 2 ? part.offset : part.begin);
    }
  }
  for (const CommEvent& event : events) event.wait();
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
