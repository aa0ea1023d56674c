// SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104), for proofs that both ends of a connection know the job's secret.
//
//   Sha256Digest proof = hmac_sha256(secret, nonce);
//   if (!equal_in_constant_time(as_bytes(proof), received)) …
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ondol {

using Sha256Digest = std::array<uint8_t, 32>;

Sha256Digest sha256(std::string_view message);
Sha256Digest hmac_sha256(std::string_view key, std::string_view message);

/// Takes as long for texts that differ early as for those that differ late.
bool equal_in_constant_time(std::string_view a, std::string_view b);

/// From the system's generator.
std::string random_bytes(size_t count);

std::string to_hex(std::string_view bytes);

inline std::string_view as_bytes(const Sha256Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

}  // namespace ondol
