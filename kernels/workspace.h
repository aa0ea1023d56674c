// Scratch memory of one kernel launch, allocated and freed in stream order (so that it may also be captured in a
// graph).
#pragma once

#include "launch.h"

namespace ondol::ONDOL_CUDA_SPACE {

template <class T>
class Workspace {
 public:
  Workspace(const char* op, int64_t count, Stream stream) : stream_(static_cast<cudaStream_t>(stream)) {
    if (count == 0) return;
    void* memory = nullptr;
    CUDA_CHECK(op, cudaMallocAsync(&memory, static_cast<size_t>(count) * sizeof(T), stream_));
    data_ = static_cast<T*>(memory);
  }
  ~Workspace() {
    if (data_ != nullptr) cudaFreeAsync(data_, stream_);  // a failure shows in the next checked call
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  T* data() const { return data_; }

 private:
  cudaStream_t stream_;
  T* data_ = nullptr;
};

}  // namespace ondol::ONDOL_CUDA_SPACE
