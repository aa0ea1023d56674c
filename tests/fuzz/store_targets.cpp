// What arrives at the job's store: from strangers until they have proved themselves, from ranks afterwards.
#include <set>

#include <ondol/base/error.h>

#include "distributed/store_messages.h"
#include "distributed/store_state.h"
#include "distributed/wire.h"
#include "fuzz/targets.h"

namespace ondol::fuzz {

namespace {

void handshake(std::string_view input) {
  const std::string secret = "the secret", nonce(kNonceBytes, 'n');
  std::string client_nonce;
  promise(!check_client_proof(input, secret, nonce, client_nonce), "a proof without the secret");
  promise(!check_server_proof(input, secret, nonce, nonce), "a proof of the server without the secret");
  accepts([&] { promise(decode_greeting(input).size() == kNonceBytes, "a nonce of another size"); });
}

void replies(std::string_view input) {
  accepts([&] {
    const StoreReply reply = decode_reply(input);
    promise(encode_reply(reply) == input, "a reply is written otherwise than it was read");
  });
}

/// A stream of requests of four connections, with the clock going on by what the requests say.
void requests(std::string_view input) {
  StoreState state({});
  StoreTime now;
  FrameReader frames(kMaxStoreRequest);
  std::set<ConnectionId> open = {0, 1, 2, 3};
  accepts([&] {
    frames.append(input.substr(0, input.size() / 2));
    bool second_half = false;
    for (;;) {
      const auto payload = frames.next();
      if (!payload && second_half) break;
      if (!payload) {
        frames.append(input.substr(input.size() / 2));
        second_half = true;
        continue;
      }
      const StoreRequest request = decode_request(*payload);
      promise(encode_request(request) == *payload, "a request is written otherwise than it was read");
      const ConnectionId from = request.id % 4;
      if (open.contains(from)) state.handle(from, request, now);
      now += std::chrono::milliseconds(request.timeout_ms % 4000);
      state.tick(now);
      for (const auto& [to, reply] : state.take_replies()) {
        promise(open.contains(to), "a reply to a connection that has closed");
        const std::string bytes = encode_reply(reply);
        promise(bytes.size() <= kMaxStoreReply && decode_reply(bytes) == reply, "a reply that cannot be read");
      }
      promise(state.stored_bytes() <= size_t{256} << 20, "more is kept than there is room for");
      if (request.id % 32 == 31 && open.erase(from) > 0) state.closed(from);
    }
  });
  if (const JobFailure* failure = state.members().failure()) {
    promise(!accepts([&] { throw Error(failure->message); }), "a failure without a message");
  }
}

std::string stream(const std::vector<StoreRequest>& all) {
  std::string bytes;
  for (const StoreRequest& request : all) bytes += framed(encode_request(request));
  return bytes;
}

}  // namespace

void run_store_protocol(std::string_view input) {
  handshake(input);
  replies(input);
  requests(input);
}

std::vector<std::string> store_protocol_seeds() {
  const StoreRequest first_joins{
      .op = StoreOp::join, .id = 4, .first = 0, .second = 2, .third = 77, .key = "host", .value = "0.1"};
  const StoreRequest second_joins{
      .op = StoreOp::join, .id = 5, .first = 1, .second = 2, .third = 78, .key = "host", .value = "0.1"};
  return {
      stream({{.op = StoreOp::get, .id = 1, .timeout_ms = 3000, .key = "k"},
              {.op = StoreOp::set, .id = 2, .key = "k", .value = "v"},
              {.op = StoreOp::add, .id = 3, .first = -9, .key = "n"}}),
      stream({{.op = StoreOp::gather, .id = 0, .timeout_ms = 9, .first = 0, .second = 2, .key = "g", .value = "a"},
              {.op = StoreOp::gather, .id = 1, .timeout_ms = 9, .first = 1, .second = 2, .key = "g", .value = "b"},
              {.op = StoreOp::gather, .id = 2, .timeout_ms = 5, .first = 2, .second = 3, .key = "g", .value = "c"}}),
      stream({first_joins,
              second_joins,
              {.op = StoreOp::beat, .id = 8, .timeout_ms = 2000, .first = 1, .second = 5, .value = "all_reduce #5"},
              {.op = StoreOp::fail, .id = 9, .timeout_ms = 2000, .value = "no space"},
              {.op = StoreOp::beat, .id = 12, .first = 1, .second = 6, .value = "all_reduce #6"}}),
      stream({first_joins, second_joins, {.op = StoreOp::leave, .id = 32, .first = 1}, {.op = StoreOp::get, .id = 63}}),
      encode_greeting(std::string(kNonceBytes, 'n')),
      encode_client_proof("another secret", std::string(kNonceBytes, 'n'), std::string(kNonceBytes, 'c')),
      encode_reply({.status = StoreStatus::timed_out, .id = 7, .number = -1, .values = {"a", "", "long"}})};
}

}  // namespace ondol::fuzz
