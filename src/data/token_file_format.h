// The fixed parts of PREFIX.idx, as they lie in the file.
#pragma once

#include <bit>
#include <cstdint>

namespace ondol::detail {

static_assert(std::endian::native == std::endian::little, "token files are mapped as they are");

inline constexpr char kIndexMagic[] = "ONDOLIDX";
inline constexpr uint32_t kIndexVersion = 1;
inline constexpr uint32_t kSentenceIndexVersion = 2;
inline constexpr uint64_t kDocumentBegins = uint64_t{1} << 63;  // of an entry of version 2

struct IndexHeader {
  char magic[8];
  uint32_t version;
  uint32_t bytes_per_token;
};
static_assert(sizeof(IndexHeader) == 16);

struct IndexFooter {
  uint64_t documents;
  uint64_t tokens;
  uint64_t vocab_size;
  uint64_t tokenizer_fingerprint;
  int64_t eos_id;
  uint64_t bin_bytes;
  uint64_t bin_crc;
  uint64_t idx_crc;
};
static_assert(sizeof(IndexFooter) == 64);

}  // namespace ondol::detail
