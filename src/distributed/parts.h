// How a buffer is cut into one part for each rank, and which parts travel together in recursive halving and doubling.
//
//   const Parts parts = cut_for_reduction(base, elements, element_bytes, ranks);
//   std::vector<PartBytes> kept = parts.places(1, rank);      // the parts of ranks with the lowest bit of this one
#pragma once

#include <cstddef>
#include <vector>

namespace ondol {

struct PartBytes {
  std::byte* data;
  size_t size;
};

struct Parts {
  std::byte* base = nullptr;
  std::vector<size_t> begin, size;  // bytes, by rank

  PartBytes of(int rank) const { return {base + begin[static_cast<size_t>(rank)], size[static_cast<size_t>(rank)]}; }
  /// Of the parts of ranks whose `low_bits` lowest bits are those of `equal_to`: neighbours put together, in rising
  /// order.
  std::vector<PartBytes> places(int low_bits, int equal_to) const;
};

/// Parts of equal size, as far as that goes. For a power of two of ranks they lie in the order of their reversed bits:
/// what halving sends is then one piece.
Parts cut_for_reduction(void* base, size_t elements, size_t element_bytes, int ranks);

/// `width` bytes at `offset` of each of `ranks` slices of `slice` bytes.
Parts cut_slices(void* base, size_t slice, size_t offset, size_t width, int ranks);

inline bool is_power_of_two(int ranks) { return (ranks & (ranks - 1)) == 0; }

}  // namespace ondol
