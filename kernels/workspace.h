// Scratch memory of one kernel launch, from the allocator that tensors use: it is free again for the launches that
// follow on the same stream.
#pragma once

#include "backend/block_allocator.h"
#include "launch.h"

namespace ondol::ONDOL_CUDA_SPACE {

struct WorkspaceBlock {
  void* data;
  BlockAllocator::Block* block;
  BlockAllocator* allocator;
};

/// For a launch on this stream of the current device (backend.cu).
WorkspaceBlock allocate_workspace(const char* op, size_t bytes, Stream stream);
void release_workspace(const WorkspaceBlock& workspace) noexcept;

template <class T>
class Workspace {
 public:
  Workspace(const char* op, int64_t count, Stream stream) {
    if (count > 0) memory_ = allocate_workspace(op, static_cast<size_t>(count) * sizeof(T), stream);
  }
  ~Workspace() {
    if (memory_.data != nullptr) release_workspace(memory_);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  T* data() const { return static_cast<T*>(memory_.data); }

 private:
  WorkspaceBlock memory_{};
};

}  // namespace ondol::ONDOL_CUDA_SPACE
