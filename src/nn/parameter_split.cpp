#include <ondol/nn/parameter_split.h>

#include <numeric>

namespace ondol {

Shape ParameterSplit::shape() const {
  Shape own = whole;
  int64_t size = 0;
  for (const Range& range : ranges) size += range.length;
  own.set(dim, size);
  return own;
}

std::vector<int64_t> ParameterSplit::indices() const {
  std::vector<int64_t> all;
  for (const Range& range : ranges) {
    for (int64_t i = 0; i < range.length; ++i) all.push_back(range.begin + i);
  }
  return all;
}

std::vector<ParameterSplit::Piece> ParameterSplit::pieces(const Tensor& own) const {
  ONDOL_CHECK(own.shape() == shape(), "a split parameter of shape ", shape(), " has none of shape ", own.shape());
  const int64_t row = whole.numel() / std::max<int64_t>(whole[0], 1);
  std::vector<Piece> all;
  int64_t begin = 0;
  for (const Range& range : ranges) {
    all.push_back({own.narrow(dim, begin, range.length), dim == 0 ? range.begin * row : range.begin, row});
    begin += range.length;
  }
  return all;
}

ParameterSplit split_parameter(const Shape& whole, int dim, const std::vector<int64_t>& parts, int rank, int ranks) {
  ONDOL_CHECK(std::accumulate(parts.begin(), parts.end(), int64_t{0}) == whole[dim], "parts of dimension ", dim, " of ",
              whole, " do not add up");
  ParameterSplit split{whole, dim, {}};
  int64_t begin = 0;
  for (const int64_t size : parts) {
    ONDOL_CHECK(size % ranks == 0, size, " of dimension ", dim, " of ", whole, " cannot be shared out among ", ranks,
                " processes");
    const int64_t share = size / ranks;
    split.ranges.push_back({begin + rank * share, share});
    begin += size;
  }
  return split;
}

}  // namespace ondol
