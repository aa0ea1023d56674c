// The build's own NVTX hooks, against a profiler that is part of this program: NVTX calls what the symbol
// InitializeInjectionNvtx2_fnptr names when no other tool is attached.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

// The headers name the symbol in code that they bring along, but leave its declaration to whoever defines it.
extern "C" int (*InitializeInjectionNvtx2_fnptr)(const void* (*)(uint32_t));
#define NVTX_STATIC_INJECTION_IMPL
#include <nvtx3/nvToolsExt.h>

#include <gtest/gtest.h>

#include <ondol/ops/elementwise.h>

#include "backend/kernel_ranges.h"

namespace {

std::vector<std::string> events;

int NVTX_API push(const char* name) {
  events.push_back(std::string("+") + name);
  return 0;
}
int NVTX_API pop() {
  events.emplace_back("-");
  return 0;
}

int NVTX_API attach(NvtxGetExportTableFunc_t tables) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(tables(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable functions = nullptr;
  unsigned count = 0;
  if (callbacks == nullptr || callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &functions, &count) == 0) return 0;
  *functions[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(&push);
  *functions[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(&pop);
  return 1;
}

}  // namespace

NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr = &attach;

namespace ondol {
namespace {

TEST(Nvtx, ARangeForEachRowReachesTheProfiler) {
  if (std::getenv("NVTX_INJECTION64_PATH") != nullptr) GTEST_SKIP() << "skipped: another profiler is attached";
  const Tensor x = Tensor::full({5}, 1.0);
  const RangeHooks* const before = kernel_ranges;
  events.clear();
  kernel_ranges = profiler_hooks();
  ops::add(x, x);
  ops::exp(x);
  kernel_ranges = before;
  ops::add(x, x);
  EXPECT_EQ(events, (std::vector<std::string>{"+binary", "-", "+unary", "-"}));
}

}  // namespace
}  // namespace ondol
