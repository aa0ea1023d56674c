// What clients and server of the store say to each other.
//
//   server: greeting (magic, nonce)      client: proof (nonce, HMAC)      server: proof (HMAC)
//   client: request                      server: reply, in any order, matched by `id`
//
// Each is the payload of one frame (wire.h). decode_* throws Error for anything that encode_* does not write.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ondol {

inline constexpr size_t kMaxStoreKey = 1024;
inline constexpr size_t kMaxStoreValue = size_t{1} << 20;
inline constexpr size_t kMaxStoreRequest = kMaxStoreKey + kMaxStoreValue + 64;
inline constexpr size_t kMaxStoreReply = size_t{64} << 20;
inline constexpr size_t kMaxHandshake = 128;
inline constexpr size_t kNonceBytes = 16;

enum class StoreOp : uint8_t {
  set,     // key, value
  get,     // key; waits
  add,     // key, first: what is added
  gather,  // key, value, first: rank, second: number of ranks; waits for all values
  join,    // key: host, value: program version, first: rank, second: number of ranks, third: process
  beat,    // key: what the rank does, value: last collective, first: step, second: its number
  fail,    // value: why this rank gives up
  leave,   // this rank has finished
};

struct StoreRequest {
  StoreOp op = StoreOp::get;
  uint64_t id = 0;
  uint32_t timeout_ms = 0;  // for those that wait
  int64_t first = 0, second = 0, third = 0;
  std::string key, value;

  bool operator==(const StoreRequest&) const = default;
};

enum class StoreStatus : uint8_t {
  ok,
  timed_out,  // values: one text, what is missing
  refused,    // the request cannot be served; values: why
  failed,     // a rank has failed; number: which, values: the message
};

struct StoreReply {
  StoreStatus status = StoreStatus::ok;
  uint64_t id = 0;
  int64_t number = 0;
  std::vector<std::string> values;

  bool operator==(const StoreReply&) const = default;
};

std::string encode_request(const StoreRequest& request);
StoreRequest decode_request(std::string_view payload);
std::string encode_reply(const StoreReply& reply);
StoreReply decode_reply(std::string_view payload);

/// The handshake: both ends prove that they know the secret without saying it. The texts that are hashed differ by
/// direction, so that a proof cannot be sent back.
std::string encode_greeting(std::string_view nonce);
std::string decode_greeting(std::string_view payload);  // the nonce
std::string encode_client_proof(std::string_view secret, std::string_view server_nonce, std::string_view client_nonce);
/// Whether the client knows the secret; its nonce is put into `client_nonce`.
bool check_client_proof(std::string_view payload, std::string_view secret, std::string_view server_nonce,
                        std::string& client_nonce);
std::string encode_server_proof(std::string_view secret, std::string_view server_nonce, std::string_view client_nonce);
bool check_server_proof(std::string_view payload, std::string_view secret, std::string_view server_nonce,
                        std::string_view client_nonce);

}  // namespace ondol
