#include "train/checkpoint_writer.h"

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "tensor/transfer.h"

namespace ondol {

namespace {

/// What a checkpoint holds, on its way to the host.
struct PendingSnapshot {
  explicit PendingSnapshot(const CheckpointParts& parts) : values(parts.model.parameters().flat_values()) {
    for (const auto& [name, tensor] : checkpoint_tensors(parts.model, parts.optimizer)) {
      optimizer.emplace_back(name, PendingRead(tensor));
    }
  }

  CheckpointSnapshot wait() && {
    CheckpointSnapshot out{std::move(values).wait_tensor(), {}};
    for (auto& [name, read] : optimizer) out.optimizer.emplace_back(name, std::move(read).wait_tensor());
    return out;
  }

  PendingRead values;
  std::vector<std::pair<std::string, PendingRead>> optimizer;
};

}  // namespace

CheckpointWriter::~CheckpointWriter() {
  if (under_way_.valid()) under_way_.wait();
}

void CheckpointWriter::start(const std::string& run_directory, const CheckpointParts& parts, int64_t keep) {
  ONDOL_CHECK(!under_way_.valid(), "a checkpoint is being written already");
  const auto pending = std::make_shared<PendingSnapshot>(parts);
  under_way_ = std::async(std::launch::async, [run_directory, parts, keep, pending] {
    const CheckpointSnapshot snapshot = std::move(*pending).wait();
    CheckpointParts copied = parts;
    copied.snapshot = &snapshot;
    return write_checkpoint(run_directory, copied, keep);
  });
}

std::string CheckpointWriter::poll() {
  const bool ready = under_way_.valid() && under_way_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  return ready ? under_way_.get() : "";
}

std::string CheckpointWriter::wait() { return under_way_.valid() ? under_way_.get() : ""; }

}  // namespace ondol
