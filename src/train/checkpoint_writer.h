// Checkpoints that are written while training goes on, for devices with memory of their own.
//
//   CheckpointWriter writer;
//   writer.start("runs/a", parts, keep);                    // values are on their way to the host; returns at once
//   ... later steps ...
//   if (std::string done = writer.poll(); !done.empty()) ...    // the directory, once, when it is whole
//   std::string last = writer.wait();
//
// One checkpoint at a time is under way. Its values are those of the moment of start(): the device copies them to
// pinned memory of the host in the order of its work, before what is started later, and a thread of the writer's waits
// for them, makes the files and syncs them. That host memory (what the checkpoint weighs) is kept for the next one.
#pragma once

#include <future>
#include <string>

#include <ondol/train/checkpoint.h>

namespace ondol {

class CheckpointWriter {
 public:
  CheckpointWriter() = default;
  /// Waits; an error of the checkpoint under way is lost.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Model and tokenizer must outlive the writing. Nothing else may be under way: wait() first.
  void start(const std::string& run_directory, const CheckpointParts& parts, int64_t keep);

  /// The directory of a checkpoint that has become whole since it was last asked for, else "". Throws what
  /// write_checkpoint threw.
  std::string poll();
  /// The same, after waiting for the one that is under way.
  std::string wait();

 private:
  std::future<std::string> under_way_;
};

}  // namespace ondol
