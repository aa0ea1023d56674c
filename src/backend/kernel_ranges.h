// Named ranges around kernel calls, for the time line of a profiler. run_kernel opens one for each row that it calls.
//
// Off unless ONDOL_NVTX=1 is set when the program starts and the build has NVTX; a call then costs one look at a
// pointer.
#pragma once

namespace ondol {

/// What a profiler's interface does. Ranges of a thread nest.
struct RangeHooks {
  void (*push)(const char* name);
  void (*pop)();
};

/// The hooks in use, or null.
extern const RangeHooks* kernel_ranges;

/// The profiler interface of this build, or null when it has none. CMake chooses the file that defines it:
/// nvtx/profiler_hooks.cpp or no_nvtx/profiler_hooks.cpp.
const RangeHooks* profiler_hooks();

/// A range for as long as the object lives.
class KernelRange {
 public:
  explicit KernelRange(const char* name) : hooks_(kernel_ranges) {
    if (hooks_ != nullptr) hooks_->push(name);
  }
  ~KernelRange() {
    if (hooks_ != nullptr) hooks_->pop();
  }
  KernelRange(const KernelRange&) = delete;
  KernelRange& operator=(const KernelRange&) = delete;

 private:
  const RangeHooks* hooks_;
};

}  // namespace ondol
