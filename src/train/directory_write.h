// A directory that the ranks of a run write together, and that is there whole or not at all.
//
//   DirectoryWrite write("runs/a/final", files, ranks.rank(), ranks.size());   // the same files on every rank
//   write.snapshot();                   // optional: values that change later do not show
//   write.write_part();                 // every rank, any thread: its share of the values is on disk
//   ... all ranks have come so far ...
//   write.publish(with_manifest);       // the first rank: checks that nothing is missing, and renames
//
// Everything lies under a hidden name until it is published. A rank leaves the checksums of what it has written in a
// file of its own beside it, which the first one takes away.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/sliced_file.h"
#include "models/model_files.h"
#include "train/ranks.h"

namespace ondol {

struct DirectoryFiles {
  std::vector<SlicedFile> sliced;
  std::vector<TextFile> texts;                             // written by the first rank, as is
  std::function<void(const std::string& directory)> more;  // what else the first rank has to write; may be null

  /// Adds a model's, below `prefix` ("" or "NAME/").
  void add(ModelFiles files, const std::string& prefix = "");
};

class DirectoryWrite {
 public:
  DirectoryWrite(std::string target, DirectoryFiles files, int rank = 0, int ranks = 1);

  void snapshot();
  /// Throws Error naming rank and file. One process then removes what it has written; several leave it to the next run.
  void write_part();
  /// Whether every rank has left the checksums of what it has written. The first rank, after its own part.
  bool is_complete() const;
  /// Throws Error when a part is missing; what was written goes away then. A directory of that name is replaced.
  void publish(bool with_manifest);
  /// Removes what is under the hidden name, left there by an attempt before or by this one.
  void discard() const noexcept;

 private:
  std::string part_path(int rank) const;
  void write_own();
  void publish_all(bool with_manifest);
  std::vector<ChunkChecksums> collect() const;

  const std::string target_, hidden_;
  const int rank_, ranks_;
  std::vector<std::string> names_;  // of the files that all write
  std::vector<SlicedFileShare> shares_;
  std::vector<ChunkChecksums> written_;  // by this rank
  std::vector<TextFile> texts_;
  std::function<void(const std::string&)> more_;
};

/// All of it, by all ranks together; returns when it is there.
void write_together(const std::string& target, DirectoryFiles files, bool with_manifest, const Ranks& ranks);

/// First out of sight, so that no half of it is ever taken for a whole one. Errors are ignored.
void remove_directory(const std::string& directory);

}  // namespace ondol
