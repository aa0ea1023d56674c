// What the fake NCCL has been asked for, and what it answers.
//
//   fake_nccl().meeting = meeting;                   // of processes: bytes then really travel, through shared memory
//   ... calls of a communicator ...
//   EXPECT_EQ(fake_nccl().calls, (std::vector<std::string>{"group start", "send 16 u8 to 1 on stream 1", ...}));
//
// Streams are named 0 (where the ops run), 1, 2, ... in the order in which they are made; events likewise.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <ondol/distributed/rendezvous.h>

#include "nccl.h"

namespace ondol::testing {

struct FakeNccl {
  std::mutex mutex;
  std::vector<std::string> calls;
  std::shared_ptr<Rendezvous> meeting;  // null: nothing travels
  bool events_happen = true;            // false: the device hangs
  ncclResult_t asynchronous_error = ncclSuccess;
};

FakeNccl& fake_nccl();

}  // namespace ondol::testing
