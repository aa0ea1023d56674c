#include "warp_matrix.h"

#include <array>
#include <bit>
#include <cstring>
#include <deque>

#include <ondol/base/error.h>

#include "emulator.h"

namespace ondol::cuda_emulated {
extern unsigned char ondol_shared_memory[];
}  // namespace ondol::cuda_emulated

namespace ondol::emulation {

namespace {

constexpr int kLanes = 32;
constexpr int kMaxThreads = 1024;
constexpr size_t kSharedBytes = size_t{227} << 10;

enum class Operation { product, load, load_transposed };

/// What a lane brings to an operation of its warp.
struct Operands {
  Operation operation;
  uint32_t a[4], b[2];
  std::array<uint16_t, 8> row;
};

struct Copy {
  unsigned char* shared;
  const void* global;
  int bytes;
  bool present;
};

/// What belongs to one CUDA thread of the running block.
struct ThreadState {
  uint64_t launch = 0;
  Index3 block;
  int turn = 0;  // which of the two sets of operands its warp uses next
  std::deque<Copy> uncommitted;
  std::deque<std::deque<Copy>> groups;
};

ThreadState threads[kMaxThreads];
/// Two sets in turn: nobody can be two operations ahead of another lane of its warp.
std::array<std::array<Operands, kLanes>, 2> warps[kMaxThreads / kLanes];

int thread_number() {
  const ThreadContext& c = current;
  return static_cast<int>((c.thread.z * c.block_dim.y + c.thread.y) * c.block_dim.x + c.thread.x);
}

/// The running thread's state, fresh at the start of each block.
ThreadState& state() {
  ThreadState& s = threads[thread_number()];
  const Index3& b = current.block;
  if (s.launch != launch_count() || s.block.x != b.x || s.block.y != b.y || s.block.z != b.z) {
    s = ThreadState{launch_count(), b, 0, {}, {}};
  }
  return s;
}

/// Shows the operands of all lanes to all lanes.
const std::array<Operands, kLanes>& gather(const Operands& mine) {
  ThreadState& s = state();
  const int thread = thread_number();
  std::array<Operands, kLanes>& all = warps[thread / kLanes][static_cast<size_t>(s.turn)];
  s.turn ^= 1;
  all[static_cast<size_t>(thread % kLanes)] = mine;
  vote(~0u, true);
  for (const Operands& other : all) {
    if (other.operation != mine.operation) throw_error("emulated kernel: lanes of a warp meet at different operations");
  }
  return all;
}

float bf16_at(uint32_t pair, int half) {
  return std::bit_cast<float>(half == 0 ? pair << 16 : pair & 0xffff0000u);
}

void check_shared(const void* address, int bytes, const char* what) {
  const auto* at = static_cast<const unsigned char*>(address);
  const unsigned char* begin = cuda_emulated::ondol_shared_memory;
  if (at < begin || at + bytes > begin + kSharedBytes) {
    throw_error("emulated kernel: ", what, " is not in shared memory");
  }
  if (reinterpret_cast<uintptr_t>(address) % static_cast<uintptr_t>(bytes) != 0) {
    throw_error("emulated kernel: ", what, " is not aligned to ", bytes, " bytes");
  }
}

}  // namespace

void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const auto& all = gather({Operation::product, {a[0], a[1], a[2], a[3]}, {b0, b1}, {}});
  const int lane = thread_number() % kLanes;
  for (int e = 0; e < 4; ++e) {
    const int row = lane / 4 + 8 * (e / 2), column = 2 * (lane % 4) + e % 2;
    for (int k = 0; k < 16; ++k) {
      const Operands& of_a = all[static_cast<size_t>(row % 8 * 4 + k % 8 / 2)];
      const Operands& of_b = all[static_cast<size_t>(column * 4 + k % 8 / 2)];
      c[e] += bf16_at(of_a.a[row / 8 + 2 * (k / 8)], k % 2) * bf16_at(of_b.b[k / 8], k % 2);
    }
  }
}

void load_matrices(uint32_t (&out)[4], const void* row, bool transposed) {
  check_shared(row, 16, "a row of a matrix");
  Operands mine{transposed ? Operation::load_transposed : Operation::load, {}, {}, {}};
  std::memcpy(mine.row.data(), row, 16);
  const auto& all = gather(mine);
  const int lane = thread_number() % kLanes, g = lane / 4, t = lane % 4;
  for (int m = 0; m < 4; ++m) {
    uint16_t half[2];
    for (int e = 0; e < 2; ++e) {
      const int i = transposed ? 2 * t + e : g, j = transposed ? g : 2 * t + e;
      half[e] = all[static_cast<size_t>(8 * m + i)].row[static_cast<size_t>(j)];
    }
    out[m] = half[0] | static_cast<uint32_t>(half[1]) << 16;
  }
}

void copy_async(void* shared, const void* global, int bytes, bool present) {
  check_shared(shared, bytes, "the target of an asynchronous copy");
  if (reinterpret_cast<uintptr_t>(global) % static_cast<uintptr_t>(bytes) != 0) {
    throw_error("emulated kernel: the source of an asynchronous copy is not aligned to ", bytes, " bytes");
  }
  std::memset(shared, 0xff, static_cast<size_t>(bytes));
  state().uncommitted.push_back({static_cast<unsigned char*>(shared), global, bytes, present});
}

void commit_copies() {
  ThreadState& s = state();
  s.groups.push_back(std::move(s.uncommitted));
  s.uncommitted.clear();
}

void wait_copies(int pending_groups) {
  ThreadState& s = state();
  while (static_cast<int>(s.groups.size()) > pending_groups) {
    for (const Copy& copy : s.groups.front()) {
      if (copy.present) {
        std::memcpy(copy.shared, copy.global, static_cast<size_t>(copy.bytes));
      } else {
        std::memset(copy.shared, 0, static_cast<size_t>(copy.bytes));
      }
    }
    s.groups.pop_front();
  }
}

}  // namespace ondol::emulation
