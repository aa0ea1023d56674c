// The header of a GGUF file, parsed and checked.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <ondol/io/gguf.h>

namespace ondol::detail {

inline constexpr uint32_t kGgufMagic = 0x46554747;  // "GGUF"
inline constexpr uint64_t kGgufAlignment = 32;      // without general.alignment

struct GgufHeader {
  uint32_t version = 0;
  std::vector<GgufValue> values;
  std::vector<GgufTensor> tensors;
  std::vector<uint32_t> values_by_name, tensors_by_name;  // indices, sorted by key and name
};

/// `file` is the whole content of the file. Memory stays within a small multiple of the header, whatever it holds.
GgufHeader parse_gguf_header(std::string_view file, const std::string& path);

/// Bytes of a number or flag; 0 for texts and arrays.
uint64_t gguf_value_bytes(GgufValueType type);

}  // namespace ondol::detail
