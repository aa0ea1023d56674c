#include "distributed/store_client.h"

#include <algorithm>
#include <vector>

#include <ondol/base/error.h>
#include <ondol/distributed/store.h>

#include "base/json_reader.h"
#include "distributed/sha256.h"

namespace ondol {

namespace {

constexpr std::chrono::milliseconds kPatience{15000};
constexpr size_t kReceiveBytes = size_t{64} << 10;

std::string place_text(const std::string& address, int port) {
  const bool number_of_ipv6 = address.find(':') != std::string::npos;
  return number_of_ipv6 ? concat("[", address, "]:", port) : concat(address, ":", port);
}

}  // namespace

StoreClient::StoreClient(const std::string& address, int port, const std::string& secret,
                         std::chrono::milliseconds timeout)
    : place_(place_text(address, port)), patience_(kPatience) {
  const SocketDeadline deadline = std::chrono::steady_clock::now() + timeout;
  try {
    socket_ = connect_socket(address, port, deadline);
    shake_hands(secret, deadline);
  } catch (const SocketTimeout& error) {
    throw_error("cannot reach the store of the job within ", timeout.count() / 1000.0, " s: ", error.what(), " (",
                place_, ")");
  } catch (const Error& error) {
    throw Error(concat("cannot use the store of the job: ", error.what(), " (", place_, ")"), error.hint());
  }
}

void StoreClient::shake_hands(const std::string& secret, SocketDeadline deadline) {
  std::string server_nonce;
  try {
    server_nonce = decode_greeting(receive_frame(deadline));
  } catch (const Error&) {
    throw Error("something else listens there", "choose another port (MASTER_PORT)");
  }
  const std::string client_nonce = random_bytes(kNonceBytes);
  socket_.send_all(framed(encode_client_proof(secret, server_nonce, client_nonce)), deadline);
  const char* hint = "all ranks need the same ONDOL_JOB_SECRET; or the port belongs to another job";
  std::string proof;
  try {
    proof = receive_frame(deadline);
  } catch (const Error&) {
    throw Error("it does not accept the job's secret", hint);
  }
  if (!check_server_proof(proof, secret, server_nonce, client_nonce))
    throw Error("it does not know the job's secret", hint);
  frames_.set_max_payload(kMaxStoreReply);
}

std::string StoreClient::receive_frame(SocketDeadline deadline) {
  std::vector<char> buffer(kReceiveBytes);
  for (;;) {
    if (auto payload = frames_.next()) return std::move(*payload);
    const size_t got = socket_.receive(buffer.data(), buffer.size(), deadline);
    if (got == 0) throw Error("it has closed the connection");
    frames_.append({buffer.data(), got});
  }
}

void StoreClient::check_usable() {
  const std::lock_guard lock(reason_mutex_);
  if (!interrupted_.empty()) throw Error(interrupted_);
  if (!broken_.empty()) throw Error(broken_);
}

void StoreClient::break_off(const std::string& reason) {
  {
    const std::lock_guard lock(reason_mutex_);
    if (broken_.empty()) broken_ = concat("lost the store of the job: ", reason, " (", place_, ")");
  }
  check_usable();
  throw Error(reason);  // never reached: check_usable throws
}

void StoreClient::interrupt(const std::string& reason) {
  {
    const std::lock_guard lock(reason_mutex_);
    if (interrupted_.empty()) interrupted_ = reason;
  }
  socket_.shut_down();
}

StoreReply StoreClient::exchange(StoreRequest request, const std::string& what, std::chrono::milliseconds wait) {
  if (request.key.size() > kMaxStoreKey || request.value.size() > kMaxStoreValue) {
    throw_error(what, " is impossible: ", request.value.size(), " bytes under a key of ", request.key.size(),
                " bytes, at most ", kMaxStoreValue, " and ", kMaxStoreKey, " (", place_, ")");
  }
  const std::lock_guard lock(call_mutex_);
  check_usable();
  request.id = ++last_id_;
  request.timeout_ms = static_cast<uint32_t>(std::clamp<int64_t>(wait.count(), 0, UINT32_MAX));
  const SocketDeadline deadline = std::chrono::steady_clock::now() + wait + patience_;
  try {
    socket_.send_all(framed(encode_request(request)), deadline);
    for (;;) {
      StoreReply reply = decode_reply(receive_frame(deadline));
      if (reply.id == request.id) return reply;
    }
  } catch (const SocketTimeout&) {
    break_off(concat("no answer for ", patience_.count() / 1000.0, " s"));
  } catch (const Error& error) {
    break_off(error.what());
  }
}

StoreReply StoreClient::call(StoreRequest request, const std::string& what, std::chrono::milliseconds wait) {
  StoreReply reply = exchange(std::move(request), what, wait);
  const std::string why = reply.values.empty() ? "no reason given" : reply.values.front();
  switch (reply.status) {
    case StoreStatus::ok:
      return reply;
    case StoreStatus::timed_out:
      throw_error(what, " failed after ", wait.count() / 1000.0, " s: ", why, " (", place_, ")");
    case StoreStatus::refused:
      throw_error(what, " was refused: ", why, " (", place_, ")");
    case StoreStatus::failed:
      break;
  }
  if (reply.values.size() > 1 && reply.values[1] == "usage") throw UsageError(why);
  throw Error(why);
}

TcpStore::TcpStore(const std::string& address, int port, const std::string& secret, std::chrono::milliseconds timeout)
    : client_(std::make_unique<StoreClient>(address, port, secret, timeout)) {}

TcpStore::~TcpStore() = default;

void TcpStore::set(const std::string& key, const std::string& value) {
  client_->call({.op = StoreOp::set, .key = key, .value = value}, "set of " + quoted_name(key), {});
}

std::string TcpStore::get(const std::string& key, std::chrono::milliseconds timeout) {
  const StoreReply reply = client_->call({.op = StoreOp::get, .key = key}, "get of " + quoted_name(key), timeout);
  ONDOL_CHECK(reply.values.size() == 1, "damaged message: ", reply.values.size(), " values (", client_->place(), ")");
  return reply.values.front();
}

int64_t TcpStore::add(const std::string& key, int64_t amount) {
  return client_->call({.op = StoreOp::add, .first = amount, .key = key}, "add to " + quoted_name(key), {}).number;
}

std::vector<std::string> TcpStore::gather(const std::string& key, int rank, int size, const std::string& value,
                                          std::chrono::milliseconds timeout) {
  StoreReply reply = client_->call({.op = StoreOp::gather, .first = rank, .second = size, .key = key, .value = value},
                                   "gather of " + quoted_name(key), timeout);
  ONDOL_CHECK(reply.values.size() == static_cast<size_t>(size), "damaged message: ", reply.values.size(), " values (",
              client_->place(), ")");
  return std::move(reply.values);
}

void TcpStore::interrupt(const std::string& reason) { client_->interrupt(reason); }

}  // namespace ondol
