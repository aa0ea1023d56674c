// Where the ranks of a job leave each other small messages before they can talk: addresses, names, identifiers.
//
//   rendezvous.set("world/address/1", "10.0.0.2:41000");
//   std::string address = rendezvous.get("world/address/0", std::chrono::seconds(30));
#pragma once

#include <chrono>
#include <string>

namespace ondol {

class Rendezvous {
 public:
  virtual ~Rendezvous() = default;

  /// Any bytes. A key is set once in the life of a job.
  virtual void set(const std::string& key, const std::string& value) = 0;

  /// Waits until some rank has set the key. Throws Error naming the key when that takes longer than `timeout`.
  virtual std::string get(const std::string& key, std::chrono::milliseconds timeout) = 0;
};

}  // namespace ondol
