// The header of a safetensors file, parsed and checked.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <ondol/io/safetensors.h>

namespace ondol::detail {

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // sorted by offset
  std::vector<uint32_t> by_name;
  SafetensorsMetadata metadata;
};

/// `file` is the whole content of the file. Memory stays within about twice its size, whatever it holds.
SafetensorsHeader parse_safetensors_header(std::string_view file, const std::string& path);

/// "F32" and so on.
const char* safetensors_dtype_name(DType dtype);

}  // namespace ondol::detail
