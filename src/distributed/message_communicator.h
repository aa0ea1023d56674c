// Collectives made of messages, for transports that only know how to exchange bytes with other ranks.
//
// Numbers of ranks that are powers of two: reduce-scatter by recursive halving, neighbours first, so that every element
// passes through exactly the tree of sums over the ranks and most bytes stay between near ranks; all-gather by
// recursive doubling in the opposite order. (R. Thakur, R. Rabenseifner, W. Gropp: Optimization of collective
// communication operations in MPICH, 2005.) Other numbers: every rank sends each other rank its part, which adds up
// what it has got in the order of the tree; the same bytes travel, in more messages. Tensors pass in pieces, so that
// little memory is needed for what arrives.
#pragma once

#include <vector>

#include "distributed/host_communicator.h"
#include "distributed/parts.h"

namespace ondol {

/// What precedes the bytes of a message.
struct MessageHeader {
  CallMark mark;
  uint64_t bytes = 0;
};

class MessageCommunicator : public HostCommunicator {
 protected:
  using HostCommunicator::HostCommunicator;

  using Bytes = PartBytes;
  /// One rank's side of a message: it is made of the bytes of all places, one after the other.
  struct Message {
    int peer;
    std::vector<Bytes> places;
  };

  /// Sends and receives, at most one message to and from each rank, and returns when all are done.
  virtual void exchange(const std::vector<Message>& outgoing, const std::vector<Message>& incoming) = 0;

  /// Throws when `peer` makes another call, or sends another number of bytes than the message that is waited for has.
  void check_header(int peer, const MessageHeader& header, uint64_t expected) const;
  /// To be called a few times a second by whoever waits for `peer`; throws when there is no use in that any longer.
  void look_around(int peer, Patience& patience);

  void do_all_reduce(void* out, const void* in, int64_t count, DType dtype, const ReduceOptions& reduce) override;
  void do_reduce_scatter(void* out, const void* in, int64_t count, DType dtype, const ReduceOptions& reduce) override;
  void do_all_gather(void* out, const void* in, size_t bytes) override;
  void do_broadcast(void* data, size_t bytes, int root) override;
  void do_barrier() override;
  void do_send(const void* data, size_t bytes, int to) override;
  void do_recv(void* data, size_t bytes, int from) override;

 private:
  struct Kind {
    DType dtype;
    ReduceOptions reduce;
  };

  /// Afterwards the part of this rank is the sum; the others are undefined.
  void reduce_parts(const Parts& parts, const Kind& kind);
  void reduce_by_halving(const Parts& parts, const Kind& kind);
  void reduce_by_exchange(const Parts& parts, const Kind& kind);
  /// From the part of this rank to all of them.
  void gather_parts(const Parts& parts);

  std::vector<std::byte> work_, arrived_;
  std::vector<const void*> sources_;
};

}  // namespace ondol
