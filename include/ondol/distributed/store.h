// A small key-value store over TCP, by which the processes of a job find each other and notice each other's end.
//
//   StoreServer server({.secret = secret, .loopback_only = true});          // rank 0 or the launcher; a thread
//   TcpStore store("127.0.0.1", server.port(), secret, std::chrono::seconds(60));
//   store.set("id", bytes);
//   std::string id = store.get("id", std::chrono::seconds(30));              // waits for another rank's set
//   int64_t ticket = store.add("tickets", 1);                                // the value after adding
//   std::vector<std::string> all = store.gather("hosts", rank, size, host, std::chrono::seconds(30));
//
// Both ends prove by HMAC-SHA-256 over fresh random numbers that they know the secret of the job; who does not is cut
// off before anything is allocated for him. That keeps out strangers that can reach the port or listen on the line. It
// does not hide what is said, nor does it stop somebody who can change packets on their way: the network of a job must
// be a private one. Keys have up to 1 KiB, values up to 1 MiB, all together up to 256 MiB.
//
// Every call has a deadline. Errors name the address and the key; after a rank of the job has failed, every call throws
// the error that names it (Job, job.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ondol/distributed/rendezvous.h>

namespace ondol {

class StoreClient;

struct StoreLimits {
  std::chrono::milliseconds silence = std::chrono::seconds(15);  // nothing heard of a rank for so long: it hangs
  std::chrono::milliseconds stuck = std::chrono::seconds(20);    // no progress while others wait for it: it is stuck
};

/// Why a job cannot go on.
struct JobFailure {
  enum class Kind : uint8_t { died, silent, stuck, reported, refused };
  Kind kind = Kind::died;
  int rank = 0;
  std::string message;  // one line that names rank, host, step and last collective
};

struct StoreServerOptions {
  std::string secret;
  int port = 0;                // 0: one that is free
  bool loopback_only = false;  // only processes of this host can connect
  StoreLimits limits;
};

class StoreServer {
 public:
  /// Throws Error when the port cannot be had.
  explicit StoreServer(const StoreServerOptions& options);
  /// Cuts all connections.
  ~StoreServer();
  StoreServer(const StoreServer&) = delete;
  StoreServer& operator=(const StoreServer&) = delete;

  int port() const;
  /// The first failure of a rank, if there was one.
  std::shared_ptr<const JobFailure> failure() const;
  /// "rank 2 (host a, process 17, step 5, last collective ...)", what is known of it.
  std::string describe(int rank) const;
  /// Tells all ranks that this one has failed, unless another has before it.
  void declare_failure(int rank, const std::string& why);
  /// Waits until the ranks that have joined have left; false when that takes longer.
  bool wait_until_left(std::chrono::milliseconds timeout) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// A connection to the store. Calls of several threads take turns.
class TcpStore : public Rendezvous {
 public:
  /// Tries until the server is there. Addresses are names or IPv4 or IPv6 numbers. Throws Error after `timeout`, at
  /// once for a wrong secret or a port that somebody else listens to.
  TcpStore(const std::string& address, int port, const std::string& secret, std::chrono::milliseconds timeout);
  ~TcpStore() override;

  void set(const std::string& key, const std::string& value) override;
  std::string get(const std::string& key, std::chrono::milliseconds timeout) override;
  /// Adds to a number that starts as 0 and returns what it is then.
  int64_t add(const std::string& key, int64_t amount);
  /// The values of all ranks, by rank, once all have given theirs; the key can then be used again. The error of one
  /// that waits in vain names the ranks that are missing.
  std::vector<std::string> gather(const std::string& key, int rank, int size, const std::string& value,
                                  std::chrono::milliseconds timeout);

  /// From any thread: what waits and all that follows throws Error(reason).
  void interrupt(const std::string& reason);

 private:
  std::unique_ptr<StoreClient> client_;
};

}  // namespace ondol
