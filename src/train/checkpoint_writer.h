// Checkpoints that all ranks of a run write together, while training goes on or at once.
//
//   CheckpointWriter writer(ranks);
//   writer.start("runs/a", parts, keep);          // a copy of this rank's share; its file work is a thread's
//   ... later steps, each with `writer.part_is_written()` in this rank's report of the step ...
//   if (all ranks have reported so) writer.all_are_written();                  // the first rank may publish it
//   if (std::string done = writer.poll(); !done.empty()) ...   // the first rank: its directory, once, when it is whole
//   std::string last = writer.finish();           // collective: waits for what is under way
//
// One checkpoint at a time is under way. Its values are those of the moment of start(): on a GPU they are copied to
// pinned memory of the host in the order of the device's work, before what is started later, on the CPU to memory of
// its own. It becomes visible (renamed) once every rank's share is on disk: then a thread of the first rank does so.
#pragma once

#include <future>
#include <optional>
#include <string>

#include <ondol/train/checkpoint.h>

#include "train/directory_write.h"
#include "train/ranks.h"

namespace ondol {

class CheckpointWriter {
 public:
  explicit CheckpointWriter(const Ranks& ranks = Ranks()) : ranks_(ranks) {}
  /// As abandon().
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// The tokenizer must outlive the writing. Nothing else may be under way: finish() first.
  void start(const std::string& run_directory, const CheckpointParts& parts, int64_t keep);
  /// Collective: without a copy of the values, and without a thread. The first rank gets the directory.
  std::string write(const std::string& run_directory, const CheckpointParts& parts, int64_t keep);

  /// Whether this rank's share is on disk, or nothing is under way. Throws what went wrong, naming rank and file.
  bool part_is_written();
  /// On every rank at the same step.
  void all_are_written();
  /// The directory of a checkpoint that has become whole since it was last asked for, else "". Throws likewise.
  std::string poll();
  /// Collective: the same, after waiting for the one that is under way.
  std::string finish();
  /// When the run ends with an error: waits for this rank's own work, and publishes the checkpoint when it finds that
  /// all ranks have written. What goes wrong then is lost.
  void abandon() noexcept;

 private:
  struct UnderWay {
    UnderWay(const std::string& run, const CheckpointParts& parts, int64_t to_keep, const Ranks& ranks);
    DirectoryWrite write;
    std::string run_directory;
    int64_t step, keep;
    std::future<void> part, publication;
  };
  void prepare(const std::string& run_directory, const CheckpointParts& parts, int64_t keep);
  void write_part();
  void publish();
  void finish_part();
  std::string take();

  const Ranks ranks_;
  std::optional<UnderWay> under_way_;
};

}  // namespace ondol
