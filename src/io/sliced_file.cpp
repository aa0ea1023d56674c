#include "io/sliced_file.h"

#include <algorithm>

#include "io/safetensors_layout.h"

namespace ondol {

namespace {

/// Of values that have to be converted, copied from a device or brought into order before they are written.
constexpr int64_t kConvertedBytes = int64_t{4} << 20;

bool is_transposed(const Tensor& values) {
  return values.ndim() == 2 && !values.is_contiguous() && values.transpose(0, 1).is_contiguous();
}

}  // namespace

std::vector<TensorOutput> whole_outputs(const SlicedFile& file) {
  std::vector<TensorOutput> outputs;
  for (const TensorSlices& slices : file.tensors) {
    ONDOL_CHECK(slices.parts.size() == 1 && slices.parts[0].values.numel() == slices.shape.numel(), "tensor \"",
                slices.name, "\" is not whole here (", file.name, ")");
    const auto data = [values = slices.parts[0].values, shape = slices.shape, dtype = slices.dtype] {
      return (values.shape() == shape ? values : values.reshape(shape)).to(dtype);
    };
    outputs.push_back({slices.name, slices.shape, slices.dtype, data});
  }
  return outputs;
}

SlicedFileShare::SlicedFileShare(const SlicedFile& file, int rank, int ranks) : name_(file.name) {
  std::vector<TensorOutline> outlines;
  for (const TensorSlices& tensor : file.tensors) outlines.push_back({tensor.name, tensor.shape, tensor.dtype});
  SafetensorsLayout layout = lay_out_safetensors(outlines, file.metadata, file.name);
  file_bytes_ = layout.bytes;
  if (rank == 0) head_ = std::move(layout.head);
  for (const size_t i : layout.order) {
    const TensorSlices& tensor = file.tensors[i];
    const uint64_t size = dtype_size(tensor.dtype);
    for (TensorPart& part : own_share(tensor, static_cast<int64_t>(i), rank, ranks)) {
      const auto stride = static_cast<uint64_t>(part.stride == 0 ? part.run() : part.stride);
      pieces_.push_back({layout.offsets[i] + static_cast<uint64_t>(part.begin) * size, stride * size, tensor.dtype,
                         std::move(part.values), std::nullopt});
    }
  }
}

void SlicedFileShare::snapshot() {
  for (Piece& piece : pieces_) {
    piece.copy_is_transposed = is_transposed(piece.values);
    piece.copy.emplace(piece.copy_is_transposed ? piece.values.transpose(0, 1) : piece.values.contiguous());
    piece.values = Tensor();
  }
}

void SlicedFileShare::write_piece(PartFile& file, Piece& piece) {
  if (piece.copy) {
    piece.values = std::move(*piece.copy).wait_tensor();
    if (piece.copy_is_transposed) piece.values = piece.values.transpose(0, 1);
    piece.copy.reset();
  }
  const Tensor values = std::move(piece.values);
  const int64_t rows = values.size(0);
  const uint64_t row_bytes = static_cast<uint64_t>(values.numel() / rows) * dtype_size(piece.dtype);
  const bool as_it_is =
      values.is_contiguous() && values.dtype() == piece.dtype && values.device().type == DeviceType::cpu;
  const int64_t step =
      as_it_is ? rows : std::max<int64_t>(1, kConvertedBytes / static_cast<int64_t>(std::max<uint64_t>(row_bytes, 1)));
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t count = std::min(step, rows - row);
    const Tensor host = as_it_is ? values : values.narrow(0, row, count).to(Device{}).to(piece.dtype).contiguous();
    const uint64_t offset = piece.offset + static_cast<uint64_t>(row) * piece.stride;
    const auto* bytes = static_cast<const std::byte*>(host.raw());
    if (piece.stride == row_bytes) {
      file.write(offset, bytes, static_cast<size_t>(count) * row_bytes);
      continue;
    }
    for (int64_t i = 0; i < count; ++i) {
      const auto number = static_cast<uint64_t>(i);
      file.write(offset + number * piece.stride, bytes + number * row_bytes, row_bytes);
    }
  }
}

ChunkChecksums SlicedFileShare::write(const std::string& directory, size_t chunk_bytes) && {
  PartFile file(directory + "/" + name_, file_bytes_, chunk_bytes);
  file.write(0, head_.data(), head_.size());
  for (Piece& piece : pieces_) write_piece(file, piece);
  return file.commit();
}

}  // namespace ondol
