#include <ondol/io/tensor_slices.h>

#include <algorithm>
#include <cstring>

namespace ondol {

namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int64_t kReadBytes = int64_t{8} << 20;

/// A part whose runs are single elements where that changes nothing, so that it can be cut anywhere.
TensorPart divisible(const TensorPart& part) {
  if (part.stride != 0 || part.values.ndim() == 1) return part;
  TensorPart out = part;
  if (part.values.ndim() == 0 || part.values.is_contiguous()) out.values = part.values.reshape({part.values.numel()});
  return out;
}

/// Throws unless the part lies inside the tensor and its runs do not meet.
void check_part(const TensorSlices& slices, const TensorPart& part) {
  const int64_t rows = part.values.size(0), run = part.run();
  const int64_t stride = part.stride == 0 ? run : part.stride;
  const int64_t whole = slices.shape.numel();
  const bool fits =
      part.begin >= 0 && stride >= run &&
      (rows == 0 || run == 0 || (part.begin <= whole - run && (rows - 1) <= (whole - run - part.begin) / stride));
  ONDOL_CHECK(fits, "part of tensor \"", slices.name, "\" from element ", part.begin, " in ", rows, " runs of ", run,
              " does not fit into ", slices.shape);
}

}  // namespace

TensorPart TensorPart::runs(int64_t first, int64_t count) const {
  TensorPart out = *this;
  out.begin = begin + first * (stride == 0 ? run() : stride);
  out.values = values.narrow(0, first, count);
  return out;
}

TensorSlices whole_tensor(const std::string& name, const Tensor& values) {
  const Tensor rows = values.ndim() == 0 ? values.reshape({1}) : values;
  return {name, values.shape(), values.dtype(), {{.begin = 0, .values = rows}}};
}

std::vector<TensorPart> own_share(const TensorSlices& slices, int64_t number, int rank, int ranks) {
  std::vector<TensorPart> mine;
  for (const TensorPart& stated : slices.parts) {
    ONDOL_CHECK(stated.values.defined(), "part of tensor \"", slices.name, "\" from element ", stated.begin,
                " has no values");
    const TensorPart part = divisible(stated);
    check_part(slices, part);
    if (part.values.numel() == 0) continue;
    const int64_t copies = part.copies == 0 ? ranks : part.copies;
    const int64_t copy = (number + (part.copies == 0 ? rank : part.copy)) % copies;
    const int64_t rows = part.values.size(0);
    const int64_t row_bytes = part.run() * static_cast<int64_t>(dtype_size(slices.dtype));
    const int64_t piece = std::max<int64_t>(1, kPieceBytes / row_bytes);  // rows
    const int64_t pieces = (rows + piece - 1) / piece;
    const int64_t begin = std::min(rows, copy * pieces / copies * piece);
    const int64_t end = std::min(rows, (copy + 1) * pieces / copies * piece);
    if (begin < end) mine.push_back(part.runs(begin, end - begin));
  }
  return mine;
}

void read_slices(const SafetensorsFile& file, const TensorSlices& slices) {
  const Tensor source = file.tensor(slices.name);
  ONDOL_CHECK(source.shape() == slices.shape && source.dtype() == slices.dtype, "tensor \"", slices.name,
              "\" has shape ", source.shape(), " in ", dtype_name(source.dtype()), ", expected ", slices.shape, " in ",
              dtype_name(slices.dtype), " (", file.path(), ")");
  const Tensor flat = source.reshape({source.numel()});
  for (const TensorPart& stated : slices.parts) {
    const TensorPart part = divisible(stated);
    check_part(slices, part);
    const int64_t run = part.run();
    if (part.values.numel() == 0) continue;
    const int64_t most = std::max<int64_t>(1, kReadBytes / (run * static_cast<int64_t>(dtype_size(slices.dtype))));
    for (int64_t row = 0; row < part.values.size(0); row += most) {
      const TensorPart now = part.runs(row, std::min(most, part.values.size(0) - row));
      const int64_t count = now.values.size(0);
      Tensor values;
      if (now.stride == 0 || now.stride == run) {
        values = flat.narrow(0, now.begin, count * run);
      } else {
        values = Tensor::empty({count * run}, slices.dtype);
        const size_t bytes = static_cast<size_t>(run) * dtype_size(slices.dtype);
        for (int64_t i = 0; i < count; ++i) {
          std::memcpy(static_cast<std::byte*>(values.raw()) + static_cast<size_t>(i) * bytes,
                      flat.narrow(0, now.begin + i * now.stride, run).raw(), bytes);
        }
      }
      now.values.copy_from(values.reshape(now.values.shape()).to(now.values.device()));
      file.release(flat.narrow(0, now.begin, (count - 1) * (now.stride == 0 ? run : now.stride) + run));
    }
  }
}

}  // namespace ondol
