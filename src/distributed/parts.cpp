#include "distributed/parts.h"

#include <algorithm>
#include <bit>

namespace ondol {

namespace {

size_t reverse_bits(size_t value, int bits) {
  size_t reversed = 0;
  for (int b = 0; b < bits; ++b) reversed |= (value >> b & 1) << (bits - 1 - b);
  return reversed;
}

}  // namespace

std::vector<PartBytes> Parts::places(int low_bits, int equal_to) const {
  const size_t mask = (size_t{1} << low_bits) - 1;
  std::vector<PartBytes> found;
  for (size_t r = 0; r < begin.size(); ++r) {
    if ((r & mask) == (static_cast<size_t>(equal_to) & mask) && size[r] > 0)
      found.push_back({base + begin[r], size[r]});
  }
  std::sort(found.begin(), found.end(), [](const PartBytes& a, const PartBytes& b) { return a.data < b.data; });
  size_t last = 0;
  for (size_t i = 1; i < found.size(); ++i) {
    if (found[last].data + found[last].size == found[i].data) {
      found[last].size += found[i].size;
    } else {
      found[++last] = found[i];
    }
  }
  if (!found.empty()) found.resize(last + 1);
  return found;
}

Parts cut_for_reduction(void* base, size_t elements, size_t element_bytes, int ranks) {
  const size_t count = static_cast<size_t>(ranks);
  const int bits = std::bit_width(count) - 1;
  Parts parts{static_cast<std::byte*>(base), std::vector<size_t>(count), std::vector<size_t>(count)};
  for (size_t r = 0; r < count; ++r) {
    const size_t place = is_power_of_two(ranks) ? reverse_bits(r, bits) : r;
    parts.begin[r] = elements * place / count * element_bytes;
    parts.size[r] = elements * (place + 1) / count * element_bytes - parts.begin[r];
  }
  return parts;
}

Parts cut_slices(void* base, size_t slice, size_t offset, size_t width, int ranks) {
  const size_t count = static_cast<size_t>(ranks);
  Parts parts{static_cast<std::byte*>(base), std::vector<size_t>(count), std::vector<size_t>(count, width)};
  for (size_t r = 0; r < count; ++r) parts.begin[r] = r * slice + offset;
  return parts;
}

}  // namespace ondol
