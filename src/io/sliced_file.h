// One safetensors file that several processes write together. It has the bytes that one process alone would write.
//
//   const SlicedFile file{"optimizer.safetensors", tensors};       // the same on all, but for the parts
//   SlicedFileShare share(file, rank, ranks);
//   share.snapshot();                                              // what changes later does not show any more
//   const ChunkChecksums sums = std::move(share).write(directory, 4 << 20);    // by any thread; durable
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <ondol/io/tensor_slices.h>

#include "base/part_file.h"
#include "tensor/transfer.h"

namespace ondol {

struct SlicedFile {
  std::string name;  // in the directory
  std::vector<TensorSlices> tensors;
  SafetensorsMetadata metadata = {{"format", "pt"}};
};

/// The whole tensors of a file of which this process is the only one, as outputs of write_safetensors.
std::vector<TensorOutput> whole_outputs(const SlicedFile& file);

/// What one process writes of a file: its share of the values, the first one also the header.
class SlicedFileShare {
 public:
  SlicedFileShare(const SlicedFile& file, int rank, int ranks);

  /// Copies the values, on a GPU in the order of its work and without waiting for it.
  void snapshot();
  /// Values are freed as they are written.
  ChunkChecksums write(const std::string& directory, size_t chunk_bytes) &&;

 private:
  struct Piece {
    uint64_t offset;  // in the file
    uint64_t stride;  // bytes from row to row of values
    DType dtype;
    Tensor values;
    std::optional<PendingRead> copy;
    bool copy_is_transposed = false;
  };
  static void write_piece(PartFile& file, Piece& piece);

  std::string name_;
  std::string head_;
  uint64_t file_bytes_ = 0;
  std::vector<Piece> pieces_;
};

}  // namespace ondol
