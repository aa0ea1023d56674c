#include <algorithm>
#include <bit>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include <ondol/base/error.h>

#include "emulator.h"
#include "hopper.h"

namespace ondol::emulation {

namespace {

constexpr int kLanes = 32, kDepth = 16;
constexpr size_t kUnitBytes = 16;

/// A matrix descriptor of the PTX ISA ("Matrix Descriptor Format" of wgmma).
struct Descriptor {
  uint32_t start, leading_bytes, stride_bytes;

  explicit Descriptor(uint64_t bits)
      : start(static_cast<uint32_t>(bits & 0x3fff) << 4),
        leading_bytes(static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4),
        stride_bytes(static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4) {
    if (bits >> 62 != 1) throw_error("emulated kernel: swizzle mode ", bits >> 62, " of a matrix is not known here");
    if ((bits >> 49 & 7) != 0) throw_error("emulated kernel: the base offset of a matrix is not known here");
  }
  /// Where eight neighbours begin. K-major: k ... k + 7 of row i, eight rows of 128 bytes to a group, a stride from
  /// group to group. MN-major: i ... i + 7 of k, 64 of them to a row of 128 bytes, a stride for each eight k, the
  /// leading offset for each 64 i. The 128-byte swizzle exchanges the units of 16 bytes by bits 7 to 9 of the address.
  uint32_t address(bool mn_major, int i, int k) const {
    const auto at = [](int bytes) { return static_cast<uint32_t>(bytes); };
    uint32_t address = start;
    if (mn_major) {
      address += at(i / 64) * leading_bytes + at(k / 8) * stride_bytes + at(k % 8 * 128 + i % 64 * 2);
    } else {
      address += at(i / 8) * stride_bytes + at(i % 8 * 128 + k * 2);
    }
    return address ^ (address >> 7 & 7) << 4;
  }
};

/// A unit of shared memory that a product reads.
struct Unit {
  const unsigned char* at;
  std::array<unsigned char, kUnitBytes> bytes;
};

/// A product as one warp sees it: its 16 rows of a, all of b.
struct Running {
  Product what;
  std::vector<Unit> units;
  float a[16][kDepth];
  std::vector<std::array<float, kDepth>> b;  // by column

  explicit Running(const Product& product) : what(product), b(static_cast<size_t>(8 * product.blocks)) {
    const int row0 = static_cast<int>(current.thread.x) / kLanes % 4 * 16;
    if (what.a == nullptr) {
      const Descriptor from(what.descriptor_a);
      for (int i = 0; i < 16; ++i) {
        for (int k = 0; k < kDepth; k += 8) {
          const auto values = read(from.address(false, row0 + i, k));
          for (int e = 0; e < 8; ++e) a[i][k + e] = values[static_cast<size_t>(e)];
        }
      }
    }
    const Descriptor from(what.descriptor_b);
    for (int k = 0; k < kDepth; k += what.transposed_b ? 1 : 8) {
      for (int n = 0; n < 8 * what.blocks; n += what.transposed_b ? 8 : 1) {
        const auto values = read(from.address(what.transposed_b, n, k));
        for (int e = 0; e < 8; ++e) {
          const int column = what.transposed_b ? n + e : n, depth = what.transposed_b ? k : k + e;
          b[static_cast<size_t>(column)][static_cast<size_t>(depth)] = values[static_cast<size_t>(e)];
        }
      }
    }
  }
  std::array<float, 8> read(uint32_t address) {
    Unit unit{shared_pointer(address, kUnitBytes, "an operand of a product"), {}};
    check_async_view(unit.at, kUnitBytes);
    std::memcpy(unit.bytes.data(), unit.at, kUnitBytes);
    units.push_back(unit);
    std::array<float, 8> values;
    for (size_t e = 0; e < 8; ++e) {
      const uint32_t bits = unit.bytes[2 * e] | static_cast<uint32_t>(unit.bytes[2 * e + 1]) << 8;
      values[e] = std::bit_cast<float>(bits << 16);
    }
    return values;
  }
  void check_units() const {
    for (const Unit& unit : units) {
      if (std::memcmp(unit.at, unit.bytes.data(), kUnitBytes) != 0) {
        throw_error("emulated kernel: shared memory has changed under a product that nobody has waited for");
      }
    }
  }
};

/// The left operand of one thread, in registers.
struct LeftRegisters {
  const uint32_t* at;
  std::array<uint32_t, 4> bits;
};

/// Accumulators of one thread between a product and the wait.
struct Pending {
  std::vector<float> values;
  uint64_t last;  // number of the latest product that adds to them
};

struct Lane {
  uint64_t started = 0, committed = 0, retired = 0;  // numbers of products
  std::deque<uint64_t> groups;                       // the number behind the last product of each
  std::deque<LeftRegisters> left;                    // of the products that are not retired; null: none
  std::map<float*, Pending> accumulators;
  bool fenced = false;
};

struct Warp {
  std::deque<Running> running;
  uint64_t first = 0;  // number of the first one there
  std::array<std::array<uint32_t, 4>, kLanes> left;
  std::array<Lane, kLanes> lanes;
};

struct BlockState {
  uint64_t block = 0;
  std::array<Warp, 32> warps;
  std::array<std::vector<Product>, 8> started;  // by the warps of a group
};

BlockState& state() {
  static std::unique_ptr<BlockState> instance;
  if (instance == nullptr || instance->block != block_count()) {
    instance = std::make_unique<BlockState>();
    instance->block = block_count();
  }
  return *instance;
}

Warp& warp() { return state().warps[current.thread.x / kLanes]; }
Lane& lane() { return warp().lanes[current.thread.x % kLanes]; }

bool same(const Product& a, const Product& b) {
  return a.blocks == b.blocks && (a.a == nullptr) == (b.a == nullptr) && a.descriptor_a == b.descriptor_a &&
         a.descriptor_b == b.descriptor_b && a.accumulate == b.accumulate && a.transposed_b == b.transposed_b;
}

/// Every warp of a group must start the same products.
void check_group(const Product& product, uint64_t number) {
  std::vector<Product>& started = state().started[current.thread.x / 128];
  if (started.size() == number) started.push_back(product);
  if (!same(started[number], product)) throw_error("emulated kernel: the warps of a group start different products");
}

float bf16_at(uint32_t pair, int half) { return std::bit_cast<float>(half == 0 ? pair << 16 : pair & 0xffff0000u); }

/// Values or, before them, NaN, which nobody may have touched.
void set_accumulators(float* d, size_t count) { std::memset(static_cast<void*>(d), 0xff, count * sizeof(float)); }
bool untouched(const float* d, size_t count) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(d);
  return std::all_of(bytes, bytes + count * sizeof(float), [](unsigned char c) { return c == 0xff; });
}

}  // namespace

void start_product(const Product& product) {
  Warp& w = warp();
  Lane& mine = lane();
  const int thread = static_cast<int>(current.thread.x) % kLanes;
  if (product.a != nullptr) std::copy_n(product.a, 4, w.left[static_cast<size_t>(thread)].begin());
  vote(~0u, true);
  const uint64_t number = mine.started++;
  if (number - w.first == w.running.size()) {  // the first lane to go on
    check_group(product, number);
    w.running.emplace_back(product);
    if (product.a != nullptr) {  // the left operand of mma.m16n8k16, of this warp's rows
      for (int i = 0; i < 16; ++i) {
        for (int k = 0; k < kDepth; ++k) {
          const uint32_t pair =
              w.left[static_cast<size_t>(i % 8 * 4 + k % 8 / 2)][static_cast<size_t>(i / 8 + 2 * (k / 8))];
          w.running.back().a[i][k] = bf16_at(pair, k % 2);
        }
      }
    }
  }
  const Running& running = w.running[number - w.first];
  if (!same(running.what, product)) throw_error("emulated kernel: lanes of a warp start different products");
  mine.left.push_back({product.a, {}});
  if (product.a != nullptr) std::copy_n(product.a, 4, mine.left.back().bits.begin());

  const size_t count = static_cast<size_t>(4 * product.blocks);
  const auto found = mine.accumulators.find(product.d);
  if (!mine.fenced && (found == mine.accumulators.end() || product.a != nullptr)) {
    throw_error("emulated kernel: a product without wgmma.fence after the last wait");
  }
  Pending& pending = mine.accumulators[product.d];
  if (found == mine.accumulators.end()) pending.values.assign(product.d, product.d + count);
  if (pending.values.size() != count) throw_error("emulated kernel: products of two shapes add to the same registers");
  pending.last = number;
  for (size_t e = 0; e < count; ++e) {
    const size_t row = static_cast<size_t>(thread) / 4 + 8 * (e % 4 / 2);
    const auto& column = running.b[8 * (e / 4) + 2 * (static_cast<size_t>(thread) % 4) + e % 2];
    float sum = product.accumulate ? pending.values[e] : 0.0f;
    for (size_t k = 0; k < kDepth; ++k) sum += running.a[row][k] * column[k];
    pending.values[e] = sum;
  }
  set_accumulators(product.d, count);
  vote(~0u, true);  // nobody brings the left operand of the next product before
}

void fence_products() {
  vote(~0u, true);
  lane().fenced = true;
}

void commit_products() {
  vote(~0u, true);
  Lane& mine = lane();
  mine.committed = mine.started;
  mine.groups.push_back(mine.committed);
}

void wait_products(int pending_groups) {
  vote(~0u, true);
  Warp& w = warp();
  Lane& mine = lane();
  uint64_t end = mine.retired;
  while (static_cast<int>(mine.groups.size()) > pending_groups) {
    end = mine.groups.front();
    mine.groups.pop_front();
  }
  for (; mine.retired < end; ++mine.retired) {
    const LeftRegisters left = mine.left.front();
    mine.left.pop_front();
    if (left.at != nullptr && !std::equal(left.bits.begin(), left.bits.end(), left.at)) {
      throw_error("emulated kernel: the left operand of a product has changed before the wait");
    }
    if (current.thread.x % kLanes == 0) w.running[mine.retired - w.first].check_units();
  }
  for (auto at = mine.accumulators.begin(); at != mine.accumulators.end();) {
    const auto& [d, pending] = *at;
    if (pending.last >= end) {
      ++at;
      continue;
    }
    if (!untouched(d, pending.values.size())) {
      throw_error("emulated kernel: accumulators have changed under a product that nobody has waited for");
    }
    std::copy(pending.values.begin(), pending.values.end(), d);
    at = mine.accumulators.erase(at);
  }
  mine.fenced = false;
  vote(~0u, true);
  while (!w.running.empty() &&
         std::all_of(w.lanes.begin(), w.lanes.end(), [&](const Lane& l) { return l.retired > w.first; })) {
    w.running.pop_front();
    ++w.first;
  }
}

}  // namespace ondol::emulation
