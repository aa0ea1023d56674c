#include "tensor/step_graph.h"

#include <cstdlib>
#include <utility>

#include <ondol/base/error.h>

namespace ondol {

namespace {

/// ONDOL_CAPTURE=0 runs everything eagerly, to look for faults.
bool capture_enabled() {
  static const bool enabled = [] {
    const char* wish = std::getenv("ONDOL_CAPTURE");
    return wish == nullptr || std::string(wish) != "0";
  }();
  return enabled;
}

/// Allocations of the scope come from the arena.
class ArenaScope {
 public:
  ArenaScope(BlockAllocator& memory, BlockAllocator::Arena* arena) : memory_(memory) { memory_.use_arena(arena); }
  ~ArenaScope() {
    memory_.set_growth(true);
    memory_.use_arena(nullptr);
  }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  BlockAllocator& memory_;
};

}  // namespace

StepGraph::StepGraph(Device device) : device_(device) {}

StepGraph::~StepGraph() { forget(); }

void StepGraph::forget() {
  const Backend& b = backend(device_.type);
  if (work_ != nullptr) b.release_captured(std::exchange(work_, nullptr), device_);
  if (arena_ != nullptr) b.memory(device_).drop_arena(std::exchange(arena_, nullptr));
  warm_ = false;
}

void StepGraph::run(const std::string& shape, const std::function<void()>& body) {
  const Backend& b = backend(device_.type);
  if (b.begin_capture == nullptr || !capture_enabled()) return body();
  if (shape != shape_) forget();
  shape_ = shape;
  if (work_ != nullptr) {
    ++replays_;
    return b.replay(work_, device_);
  }
  try {
    BlockAllocator& memory = b.memory(device_);
    if (arena_ == nullptr) arena_ = memory.make_arena();
    const ArenaScope scope(memory, arena_);
    if (warm_) {
      memory.set_growth(false);
      capture(body);
      return;
    }
    const uint64_t before = memory.statistics().system_allocations;
    body();
    warm_ = memory.statistics().system_allocations == before;
  } catch (...) {
    forget();
    throw;
  }
}

void StepGraph::capture(const std::function<void()>& body) {
  const Backend& b = backend(device_.type);
  b.begin_capture(device_);
  try {
    body();
  } catch (...) {
    if (CapturedWork* unfinished = b.end_capture(device_)) b.release_captured(unfinished, device_);
    throw;
  }
  work_ = b.end_capture(device_);
  ONDOL_CHECK(work_ != nullptr, "a step on ", to_string(device_), " could not be captured");
  b.replay(work_, device_);
}

}  // namespace ondol
