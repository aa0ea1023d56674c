// What the build says about itself, and the code that nvcc left in the library.
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include <gtest/gtest.h>

#include <ondol/backend/devices.h>
#include <ondol/base/build_info.h>
#include <ondol/base/error.h>

#include "backend/backend.h"

namespace ondol {
namespace {

TEST(BuildInfo, NamesWhatTheBuildContains) {
  const BuildInfo& info = build_info();
  EXPECT_FALSE(info.version.empty());
  EXPECT_FALSE(info.compiler.empty());
  EXPECT_FALSE(info.cpu_instruction_sets.empty());
  EXPECT_EQ(info.cuda.empty(), info.cuda_architectures.empty());
}

TEST(Devices, TheCpuComesFirst) {
  const auto devices = describe_devices();
  ASSERT_GE(devices.size(), 1u);
  EXPECT_EQ(devices[0].device, Device{});
  EXPECT_GT(devices[0].memory_bytes, size_t{1} << 20);
  EXPECT_GE(devices[0].processors, 1);
  EXPECT_FALSE(devices[0].architecture.empty());
}

TEST(Devices, WithoutAGpuThereIsAReason) {
  EXPECT_EQ(device_unavailable_reason(DeviceType::cpu), "");
  const std::string reason = device_unavailable_reason(DeviceType::cuda);
  EXPECT_EQ(reason.empty(), find_backend(DeviceType::cuda) != nullptr);
  EXPECT_EQ(reason.empty(), describe_devices().size() > 1);
  if (reason.empty()) GTEST_SKIP() << "skipped: this machine has a GPU";
  const bool built_without = reason.find("no CUDA") != std::string::npos;
  EXPECT_EQ(built_without, build_info().cuda.empty()) << reason;
  try {
    kernel_table({DeviceType::cuda, 0});
    FAIL() << "a table without a GPU";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos);
  }
}

/// An entry of a fat binary, as nvcc embeds them: PTX or machine code for one architecture.
struct DeviceCode {
  uint16_t kind;
  uint32_t architecture;
  bool specific;  // sm_90a rather than sm_90
  auto operator<=>(const DeviceCode&) const = default;
};
constexpr uint16_t kPtx = 1, kMachineCode = 2;

template <class T>
T read_at(const std::string& bytes, size_t at) {
  T value{};
  if (at + sizeof(T) <= bytes.size()) std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

/// Container: magic u32, version u16, header size u16, size u64; entry: kind u16, version u16, header size u32, payload
/// size u64, ..., architecture u32 at 28, flags u64 at 40 (compared with what nvcc 13 writes for sm_90 and sm_90a).
std::map<DeviceCode, int> device_code(const std::string& bytes) {
  constexpr char kMagic[] = "\x50\xed\x55\xba";
  std::map<DeviceCode, int> found;
  for (size_t at = bytes.find(kMagic, 0, 4); at != std::string::npos; at = bytes.find(kMagic, at + 4, 4)) {
    size_t entry = at + read_at<uint16_t>(bytes, at + 6);
    const size_t end = entry + read_at<uint64_t>(bytes, at + 8);
    while (entry < end && end <= bytes.size()) {
      const uint64_t flags = read_at<uint64_t>(bytes, entry + 40);
      ++found[{read_at<uint16_t>(bytes, entry), read_at<uint32_t>(bytes, entry + 28), (flags & 0x100000u) != 0}];
      entry += read_at<uint32_t>(bytes, entry + 4) + read_at<uint64_t>(bytes, entry + 8);
    }
  }
  return found;
}

TEST(CudaObjects, HoldCodeForEveryArchitecture) {
  if (build_info().cuda.empty()) GTEST_SKIP() << "skipped: this build has no CUDA";
  if (build_info().cuda_architectures != "80,90a-real") GTEST_SKIP() << "skipped: other architectures were chosen";
  std::ifstream file(ONDOL_LIBRARY_FILE, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  auto found = device_code(bytes);
  const int files = found[{kMachineCode, 80, false}];
  EXPECT_GE(files, 14) << "kernel files";
  constexpr int kHopperFiles = 1;  // kernels/*_hopper.cu
  EXPECT_EQ((found[{kMachineCode, 90, true}]), files + kHopperFiles) << "sm_90a in each of them";
  EXPECT_EQ((found[{kPtx, 80, false}]), files) << "and PTX for GPUs to come";
}

}  // namespace
}  // namespace ondol
