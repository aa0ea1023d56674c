#include "distributed/store_messages.h"

#include <ondol/base/error.h>

#include "distributed/sha256.h"
#include "distributed/wire.h"

namespace ondol {

namespace {

constexpr std::string_view kMagic = "ondol store 1\n";
constexpr size_t kProofBytes = sizeof(Sha256Digest);
constexpr size_t kMaxValues = size_t{1} << 20;

Sha256Digest proof(std::string_view who, std::string_view secret, std::string_view server_nonce,
                   std::string_view client_nonce) {
  return hmac_sha256(secret, concat(kMagic, who, server_nonce, client_nonce));
}

}  // namespace

std::string encode_request(const StoreRequest& request) {
  WireWriter out;
  out.u8(static_cast<uint8_t>(request.op));
  out.u64(request.id);
  out.u32(request.timeout_ms);
  out.u64(static_cast<uint64_t>(request.first));
  out.u64(static_cast<uint64_t>(request.second));
  out.u64(static_cast<uint64_t>(request.third));
  out.text(request.key);
  out.text(request.value);
  return out.bytes();
}

StoreRequest decode_request(std::string_view payload) {
  WireReader in(payload);
  StoreRequest request;
  const uint8_t op = in.u8();
  ONDOL_CHECK(op <= static_cast<uint8_t>(StoreOp::leave), "damaged message: no operation ", int{op});
  request.op = static_cast<StoreOp>(op);
  request.id = in.u64();
  request.timeout_ms = in.u32();
  request.first = static_cast<int64_t>(in.u64());
  request.second = static_cast<int64_t>(in.u64());
  request.third = static_cast<int64_t>(in.u64());
  request.key = in.text(kMaxStoreKey);
  request.value = in.text(kMaxStoreValue);
  in.finish();
  return request;
}

std::string encode_reply(const StoreReply& reply) {
  WireWriter out;
  out.u8(static_cast<uint8_t>(reply.status));
  out.u64(reply.id);
  out.u64(static_cast<uint64_t>(reply.number));
  out.u32(static_cast<uint32_t>(reply.values.size()));
  for (const std::string& value : reply.values) out.text(value);
  return out.bytes();
}

StoreReply decode_reply(std::string_view payload) {
  WireReader in(payload);
  StoreReply reply;
  const uint8_t status = in.u8();
  ONDOL_CHECK(status <= static_cast<uint8_t>(StoreStatus::failed), "damaged message: no status ", int{status});
  reply.status = static_cast<StoreStatus>(status);
  reply.id = in.u64();
  reply.number = static_cast<int64_t>(in.u64());
  const size_t count = in.u32();
  ONDOL_CHECK(count <= kMaxValues && count * 4 <= payload.size(), "damaged message: ", count, " values");
  reply.values.reserve(count);
  for (size_t i = 0; i < count; ++i) reply.values.push_back(in.text(kMaxStoreValue));
  in.finish();
  return reply;
}

std::string encode_greeting(std::string_view nonce) { return concat(kMagic, nonce); }

std::string decode_greeting(std::string_view payload) {
  ONDOL_CHECK(payload.size() == kMagic.size() + kNonceBytes && payload.starts_with(kMagic), "not an ondol store");
  return std::string(payload.substr(kMagic.size()));
}

std::string encode_client_proof(std::string_view secret, std::string_view server_nonce, std::string_view client_nonce) {
  return concat(client_nonce, as_bytes(proof("client", secret, server_nonce, client_nonce)));
}

bool check_client_proof(std::string_view payload, std::string_view secret, std::string_view server_nonce,
                        std::string& client_nonce) {
  if (payload.size() != kNonceBytes + kProofBytes) return false;
  client_nonce = payload.substr(0, kNonceBytes);
  return equal_in_constant_time(payload.substr(kNonceBytes),
                                as_bytes(proof("client", secret, server_nonce, client_nonce)));
}

std::string encode_server_proof(std::string_view secret, std::string_view server_nonce, std::string_view client_nonce) {
  return std::string(as_bytes(proof("server", secret, server_nonce, client_nonce)));
}

bool check_server_proof(std::string_view payload, std::string_view secret, std::string_view server_nonce,
                        std::string_view client_nonce) {
  return equal_in_constant_time(payload, as_bytes(proof("server", secret, server_nonce, client_nonce)));
}

}  // namespace ondol
