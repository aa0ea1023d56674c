// safetensors: whatever is accepted has tensors that lie inside the file and can be written and read again.
#include <cstring>

#include <ondol/io/safetensors.h>

#include "fuzz/targets.h"
#include "io/safetensors_header.h"

namespace ondol::fuzz {

namespace {

std::string file_of(const std::string& header, size_t data_bytes) {
  std::string file(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(file.data(), &length, sizeof length);
  file += header;
  for (size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i * 37);
  return file;
}

}  // namespace

void run_safetensors(std::string_view input) {
  const std::string path = scratch_file("input.safetensors", input);
  accepts([&] {
    const SafetensorsFile file(path);
    uint64_t sum = 0, data_bytes = 0;
    for (const SafetensorsEntry& entry : file.entries()) {
      promise(entry.offset <= input.size() && entry.bytes <= input.size() - entry.offset,
              "a tensor ends past the file");
      promise(static_cast<uint64_t>(entry.shape.numel()) * dtype_size(entry.dtype) == entry.bytes,
              "a tensor's shape is not that of its bytes");
      promise(file.find(entry.name) == &entry, "a tensor is not found under its name");
      const Tensor tensor = file.tensor(entry);
      const auto* bytes = static_cast<const unsigned char*>(static_cast<const void*>(tensor.raw()));
      for (uint64_t i = 0; i < entry.bytes; ++i) sum += bytes[i];
      data_bytes += entry.bytes;
    }
    uint64_t expected = 0;
    for (size_t i = input.size() - data_bytes; i < input.size(); ++i) expected += static_cast<unsigned char>(input[i]);
    promise(sum == expected, "the tensors do not cover the data");
  });
}

std::vector<std::string> safetensors_seeds() {
  return {
      file_of("{}", 0),
      file_of(R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})", 24),
      file_of(R"({"__metadata__":{"format":"pt"},"w":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]},)"
              R"("b":{"dtype":"I64","shape":[],"data_offsets":[8,16]}})",
              16),
      file_of(R"({"odd":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"half":{"dtype":"F16","shape":[1,1,1],)"
              R"("data_offsets":[3,5]},"empty":{"dtype":"F64","shape":[0,7],"data_offsets":[5,5]}}   )",
              5),
      file_of(R"({"\u00e9\ud83d\ude00":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},)"
              R"("i":{"dtype":"I8","shape":[1],"data_offsets":[1,2]}})",
              2),
      file_of(R"({"x":{"dtype":"I32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0),
  };
}

}  // namespace ondol::fuzz
