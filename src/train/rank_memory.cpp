#include "train/rank_memory.h"

#include "train/model_setup.h"
#include "train/ranks.h"
#include "train/shard_layout.h"

namespace ondol {

namespace {

/// Partial sums that are alive at once in a tree over so many summands.
int64_t partial_sums(int64_t summands) {
  int64_t sums = 1;
  while (summands > 1) {
    summands = (summands + 1) / 2;
    ++sums;
  }
  return sums;
}

}  // namespace

RankMemory rank_memory(const TrainConfig& config, const ParameterStore& store, const Optimizer& optimizer, int ranks) {
  const int64_t flat = store.trainable_elements(), stage = ranks > 1 ? config.parallel.zero_stage : 0;
  const int64_t kept = stage > 0 ? ShardLayout(store, 0, ranks).shard_elements() : flat;
  const auto f32_bytes = [](int64_t elements) { return static_cast<uint64_t>(elements) * sizeof(float); };
  RankMemory memory{.ranks = ranks, .zero_stage = stage};
  const Tensor& values = store.flat_values();
  const int64_t held = stage >= 3 ? values.numel() - flat + kept : values.numel();
  memory.parameter_bytes = static_cast<uint64_t>(held) * dtype_size(values.dtype());
  if (values.dtype() != DType::f32) memory.parameter_bytes += f32_bytes(kept);
  for (const auto& [name, tensor] : optimizer.state()) {
    const bool by_element = tensor.dtype() == DType::f32 && tensor.numel() == flat;
    memory.optimizer_bytes +=
        by_element ? f32_bytes(kept) : static_cast<uint64_t>(tensor.numel()) * dtype_size(tensor.dtype());
  }
  const StageConfig& first = config.stages.front();
  const int64_t micro_batches = (first.batch_size + first.micro_batch_size - 1) / first.micro_batch_size;
  if (stage >= 2) {
    const int64_t rounds = dealt_micro_batches(micro_batches, 0, ranks).size;
    memory.gradient_bytes = f32_bytes(partial_sums(rounds) * kept);
  } else {
    const int64_t own = share_of_micro_batches(micro_batches, 0, ranks).count;
    memory.gradient_bytes = f32_bytes(partial_sums(own) * flat);
  }
  return memory;
}

void shrink_to_part(RankMemory& memory, const TrainConfig& config) {
  const std::unique_ptr<Model> outline = outline_training_model(config);
  const auto elements = [&] {
    int64_t sum = 0;
    for (const ParameterStore::Entry& entry : outline->parameters().entries()) sum += entry.shape.numel();
    return static_cast<double>(sum);
  };
  const double whole = elements();
  split_model(*outline, {.rank = 0, .ranks = static_cast<int>(config.parallel.tensor)});
  const double share = elements() / whole;
  memory.ranks *= static_cast<int>(config.parallel.tensor);
  for (uint64_t* bytes : {&memory.parameter_bytes, &memory.optimizer_bytes, &memory.gradient_bytes}) {
    *bytes = static_cast<uint64_t>(static_cast<double>(*bytes) * share);
  }
}

}  // namespace ondol
