#include "backend/block_allocator.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include <ondol/base/error.h>

namespace ondol {

namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kSmall = kMiB;  // small blocks share segments of their own, so that they do not pin large ones
constexpr size_t kSmallSegment = 2 * kMiB;
constexpr size_t kMediumSegment = 20 * kMiB;  // for blocks of up to half of it
constexpr size_t kSegmentUnit = 2 * kMiB;     // the GPU's page
constexpr size_t kMaxBytes = size_t{1} << 46;

size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

/// Classes of sizes, counted in units of the granularity: every size up to `steps` units, then `steps` between powers
/// of two.
struct SizeClasses {
  size_t granularity, steps;

  /// The smallest size of a class that holds `bytes`.
  size_t rounded(size_t bytes) const {
    const size_t units = std::max<size_t>(1, round_up(bytes, granularity) / granularity);
    if (units < steps) return units * granularity;
    return round_up(units, std::bit_floor(units) / steps) * granularity;
  }

  /// The class whose smallest size is the greatest that is not above `size`.
  size_t index(size_t size) const {
    const size_t units = size / granularity;
    if (units < steps) return units;
    const auto log2 = static_cast<size_t>(std::bit_width(units) - 1);
    const auto step_bits = static_cast<size_t>(std::bit_width(steps) - 1);
    return (log2 - step_bits) * steps + (units >> (log2 - step_bits));
  }

  size_t count() const { return index(kMaxBytes) + 1; }
};

/// Free blocks by class, with a bit for each class that has any.
class FreeLists {
 public:
  using Block = BlockAllocator::Block;

  explicit FreeLists(size_t classes) : heads(classes, nullptr), bits((classes + 63) / 64, 0) {}

  /// The first class from `from` on that is not empty; npos when there is none.
  size_t first(size_t from) const {
    size_t word = from / 64;
    if (word >= bits.size()) return npos;
    uint64_t left = bits[word] & (~uint64_t{0} << (from % 64));
    while (left == 0) {
      if (++word == bits.size()) return npos;
      left = bits[word];
    }
    return word * 64 + static_cast<size_t>(std::countr_zero(left));
  }

  static constexpr size_t npos = std::numeric_limits<size_t>::max();
  std::vector<Block*> heads;
  std::vector<uint64_t> bits;
};

}  // namespace

struct BlockAllocator::Segment {
  void* data = nullptr;
  size_t size = 0;
  Arena* arena = nullptr;
  bool small = false;
  Block* first = nullptr;
};

class BlockAllocator::Arena {
 public:
  explicit Arena(const AllocatorPolicy& policy)
      : classes_{policy.granularity, policy.steps}, lists_{FreeLists(classes_.count()), FreeLists(classes_.count())} {}

  void insert(Block* block) {
    FreeLists& lists = lists_of(block);
    const size_t c = classes_.index(block->size);
    block->free = true;
    block->previous_free = nullptr;
    block->next_free = lists.heads[c];
    if (block->next_free != nullptr) block->next_free->previous_free = block;
    lists.heads[c] = block;
    lists.bits[c / 64] |= uint64_t{1} << (c % 64);
  }

  void remove(Block* block) {
    FreeLists& lists = lists_of(block);
    const size_t c = classes_.index(block->size);
    block->free = false;
    if (block->next_free != nullptr) block->next_free->previous_free = block->previous_free;
    if (block->previous_free != nullptr) {
      block->previous_free->next_free = block->next_free;
    } else {
      lists.heads[c] = block->next_free;
      if (block->next_free == nullptr) lists.bits[c / 64] &= ~(uint64_t{1} << (c % 64));
    }
  }

  /// A free block for the rounded size, or null: of the same class, or with `larger` of the next one that has any.
  Block* find(size_t size, bool small, bool larger) const {
    const FreeLists& lists = lists_[small ? 0 : 1];
    const size_t c = classes_.index(size);
    if (!larger) return lists.heads[c];
    const size_t found = lists.first(c);
    return found == FreeLists::npos ? nullptr : lists.heads[found];
  }

 private:
  FreeLists& lists_of(const Block* block) { return lists_[block->segment->small ? 0 : 1]; }

  SizeClasses classes_;
  FreeLists lists_[2];  // small, large
};

BlockAllocator::BlockAllocator(SystemMemory& system, const AllocatorPolicy& policy) : system_(system), policy_(policy) {
  arenas_.push_back(std::make_unique<Arena>(policy_));
  current_ = arenas_.front().get();
}

BlockAllocator::~BlockAllocator() {
  system_.synchronize();
  for (const auto& segment : segments_) {
    for (Block* block = segment->first; block != nullptr;) delete std::exchange(block, block->behind);
    system_.release(segment->data, segment->size);
  }
}

BlockAllocator::Block* BlockAllocator::allocate(size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (bytes > kMaxBytes / 2) throw_out_of_memory(bytes);
  const size_t size =
      keeps() ? SizeClasses{policy_.granularity, policy_.steps}.rounded(bytes) : std::max<size_t>(bytes, 1);
  Block* block = take(size);
  statistics_.allocated += block->size;
  statistics_.peak = std::max(statistics_.peak, statistics_.allocated);
  return block;
}

BlockAllocator::Block* BlockAllocator::take(size_t size) {
  const bool small = policy_.split && size <= kSmall;
  Block* block = keeps() ? current_->find(size, small, policy_.split) : nullptr;
  if (block == nullptr) block = reserve(size);
  block->segment->arena->remove(block);
  // What is left of a large segment is kept for large blocks.
  if (policy_.split && block->size - size >= (small ? policy_.granularity : kSmall)) cut(block, size);
  return block;
}

/// A new segment as one free block.
BlockAllocator::Block* BlockAllocator::reserve(size_t size) {
  const bool small = policy_.split && size <= kSmall;
  size_t bytes = size;
  if (policy_.split) {
    bytes = small ? kSmallSegment : size <= kMediumSegment / 2 ? kMediumSegment : round_up(size, kSegmentUnit);
  }
  auto segment = std::make_unique<Segment>();
  auto block = std::make_unique<Block>();
  segments_.reserve(segments_.size() + 1);
  segment->data = request(bytes);
  segment->size = bytes;
  segment->arena = current_;
  segment->small = small;
  segment->first = block.get();
  block->data = segment->data;
  block->size = bytes;
  block->segment = segment.get();
  segments_.push_back(std::move(segment));
  statistics_.reserved += bytes;
  current_->insert(block.get());
  return block.release();
}

void* BlockAllocator::request(size_t bytes) {
  ONDOL_CHECK(may_grow_, "a captured step on ", system_.name(), " asks for ", bytes >> 20,
              " MiB more than the step before it");
  ++statistics_.system_allocations;
  void* memory = system_.allocate(bytes);
  if (memory == nullptr) {  // what lies idle in other sizes may be enough
    release_cached_locked();
    memory = system_.allocate(bytes);
  }
  if (memory == nullptr) throw_out_of_memory(bytes);
  return memory;
}

void BlockAllocator::throw_out_of_memory(size_t bytes) const {
  const std::string free = system_.free_memory();
  throw Error(concat("out of memory on ", system_.name(), ": ", bytes >> 20, " MiB asked, ",
                     statistics_.allocated >> 20, " MiB in use, ", (statistics_.reserved - statistics_.allocated) >> 20,
                     " MiB cached", free.empty() ? "" : concat(", ", free)),
              "lower train.micro_batch_size (the results stay the same) or data.sequence_length, or set train.dtype to "
              "bf16");
}

/// Keeps the first `size` bytes of a block that was taken; the rest is free.
void BlockAllocator::cut(Block* block, size_t size) {
  Block* rest = new Block();
  rest->data = static_cast<char*>(block->data) + size;
  rest->size = block->size - size;
  rest->segment = block->segment;
  rest->before = block;
  rest->behind = block->behind;
  if (rest->behind != nullptr) rest->behind->before = rest;
  block->behind = rest;
  block->size = size;
  block->segment->arena->insert(rest);
}

/// Two neighbours, neither of them in a list, become one.
BlockAllocator::Block* BlockAllocator::join(Block* first, Block* second) {
  first->size += second->size;
  first->behind = second->behind;
  if (first->behind != nullptr) first->behind->before = first;
  delete second;
  return first;
}

void BlockAllocator::release(Block* block) noexcept {
  const std::lock_guard lock(mutex_);
  statistics_.allocated -= block->size;
  Arena& arena = *block->segment->arena;
  if (block->before != nullptr && block->before->free) {
    arena.remove(block->before);
    block = join(block->before, block);
  }
  if (block->behind != nullptr && block->behind->free) {
    arena.remove(block->behind);
    block = join(block, block->behind);
  }
  arena.insert(block);
  if (!policy_.reuse && &arena == arenas_.front().get()) release_cached_locked();
}

AllocatorStatistics BlockAllocator::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void BlockAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  statistics_.peak = statistics_.allocated;
}

void BlockAllocator::release_cached() {
  const std::lock_guard lock(mutex_);
  release_cached_locked();
}

void BlockAllocator::release_cached_locked() {
  system_.synchronize();
  for (size_t place = 0; place < segments_.size();) {
    Segment& segment = *segments_[place];
    Block* block = segment.first;
    if (segment.arena != arenas_.front().get() || !block->free || block->behind != nullptr) {
      ++place;
      continue;
    }
    segment.arena->remove(block);
    delete block;
    statistics_.reserved -= segment.size;
    const std::unique_ptr<Segment> gone = std::move(segments_[place]);
    if (place + 1 < segments_.size()) segments_[place] = std::move(segments_.back());
    segments_.pop_back();
    system_.release(gone->data, gone->size);
  }
}

BlockAllocator::Arena* BlockAllocator::make_arena() {
  const std::lock_guard lock(mutex_);
  return arenas_.emplace_back(std::make_unique<Arena>(policy_)).get();
}

void BlockAllocator::use_arena(Arena* arena) {
  const std::lock_guard lock(mutex_);
  current_ = arena == nullptr ? arenas_.front().get() : arena;
}

void BlockAllocator::drop_arena(Arena* arena) {
  const std::lock_guard lock(mutex_);
  Arena* const everyone = arenas_.front().get();
  if (current_ == arena) current_ = everyone;
  for (const auto& segment : segments_) {
    if (segment->arena != arena) continue;
    for (Block* block = segment->first; block != nullptr; block = block->behind) {
      if (!block->free) continue;
      arena->remove(block);
      everyone->insert(block);
    }
    segment->arena = everyone;
  }
  std::erase_if(arenas_, [arena](const auto& entry) { return entry.get() == arena; });
  if (!policy_.reuse) release_cached_locked();
}

void BlockAllocator::set_growth(bool allowed) {
  const std::lock_guard lock(mutex_);
  may_grow_ = allowed;
}

}  // namespace ondol
