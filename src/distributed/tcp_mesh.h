// Two TCP connections between each pair of ranks: one for tensors, one for signs of life and bad news, which thus never
// wait behind tensors.
#pragma once

#include <vector>

#include "distributed/transports.h"

namespace ondol {

/// An open file descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

struct TcpPeer {
  Descriptor data, control;
};

/// Collective: the connections to all other ranks, which do not block; this rank's own entry is empty. Only processes
/// that know what rank 0 has left at the rendezvous are let in.
std::vector<TcpPeer> connect_tcp_mesh(const CommMembers& members);

}  // namespace ondol
