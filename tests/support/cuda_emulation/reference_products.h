// A matrix library for the emulated CUDA backend, written from the documentation of cuBLASLt: column-major, its
// epilogues, its refusals. It stands where cuBLASLt stands on a GPU; without it products run the project's own kernel.
#pragma once

#include <cstdint>
#include <string>

namespace ondol::emulation {

struct ReferenceProducts {
  bool available = false;
  std::string identity = "reference products";
  uint64_t runs = 0;            // products that the library has done
  uint64_t measured = 0;        // algorithms that were timed
  uint64_t last_algorithm = 0;  // 1 to 3
};

/// Of this process; tests switch it on and read the counts.
ReferenceProducts& reference_products();

}  // namespace ondol::emulation
