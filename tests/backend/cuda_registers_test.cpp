// What ptxas said about the kernels when this build compiled them: the hot ones must keep everything in registers.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <cxxabi.h>

#include <gtest/gtest.h>

#include <ondol/base/build_info.h>
#include <ondol/base/error.h>

namespace ondol {
namespace {

namespace fs = std::filesystem;

/// Kernels that a training step or a decoding step spends its time in, as the demangled names begin. No instance of
/// them may spill or use stack, on any architecture.
constexpr const char* kHotKernels[] = {"attention_kernel",
                                       "attention_decode_kernel",
                                       "attention_combine_kernel",
                                       "attention_row_sums_kernel",
                                       "attention_grad_bias_kernel",
                                       "attention_hopper_kernel",
                                       "attention_grad_q_kernel",
                                       "attention_grad_kv_kernel",
                                       "gemm_kernel",
                                       "norm_kernel",
                                       "norm_backward_kernel",
                                       "softmax_kernel",
                                       "softmax_backward_kernel",
                                       "cross_entropy_kernel",
                                       "cross_entropy_backward_kernel",
                                       "embedding_kernel",
                                       "sum_runs_kernel",
                                       "glu_kernel",
                                       "glu_backward_kernel",
                                       "rope_kernel",
                                       "unary_kernel",
                                       "binary_kernel",
                                       "binary_wide_kernel",
                                       "dropout_kernel",
                                       "reduce_rows_kernel",
                                       "convert_wide_kernel",
                                       "copy_units_kernel",
                                       "adamw_kernel",
                                       "sgd_kernel",
                                       "rows_of_b_kernel",
                                       "columns_of_b_kernel",
                                       "quant_gemm_kernel",
                                       "gemm_epilogue_kernel",
                                       "reduce_columns_kernel",
                                       "unary_bias_backward_kernel"};

struct Usage {
  std::string kernel;        // demangled, from the last namespace on
  std::string architecture;  // "sm_90a"
  int stack = 0, spill_stores = 0, spill_loads = 0, registers = 0;
};

/// "ondol::cuda::(anonymous namespace)::norm_kernel<float, 4, false>(...)" -> "norm_kernel<float, 4, false>".
std::string short_name(const std::string& mangled) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> demangled(
      abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status), std::free);
  std::string name = status == 0 ? demangled.get() : mangled;
  if (name.starts_with("void ")) name.erase(0, 5);
  const std::string space = "(anonymous namespace)::";
  if (const size_t at = name.find(space); at != std::string::npos) name.erase(0, at + space.size());
  return name.substr(0, name.find('('));
}

/// The lines about one kernel: "Compiling entry function '_Z...' for 'sm_80'", then "0 bytes stack frame, 0 bytes spill
/// stores, 0 bytes spill loads" of it and of device functions that were not inlined, then "Used 40 registers, ...".
std::vector<Usage> parse_report(std::istream& in) {
  std::vector<Usage> found;
  for (std::string line; std::getline(in, line);) {
    const size_t entry = line.find("Compiling entry function '");
    if (entry != std::string::npos) {
      const size_t begin = line.find('\'') + 1, end = line.find('\'', begin);
      const size_t arch = line.find('\'', end + 1) + 1;
      found.push_back({short_name(line.substr(begin, end - begin)), line.substr(arch, line.find('\'', arch) - arch)});
    } else if (line.find("bytes stack frame") != std::string::npos && !found.empty()) {
      int stack = 0, stores = 0, loads = 0;
      std::sscanf(line.c_str(), " %d bytes stack frame, %d bytes spill stores, %d bytes spill loads", &stack, &stores,
                  &loads);
      Usage& usage = found.back();
      usage.stack += stack;
      usage.spill_stores += stores;
      usage.spill_loads += loads;
    } else if (const size_t used = line.find("Used "); used != std::string::npos && !found.empty()) {
      found.back().registers = std::atoi(line.c_str() + used + 5);
    }
  }
  return found;
}

std::string complaint(const Usage& u) {
  const bool hot = std::any_of(std::begin(kHotKernels), std::end(kHotKernels), [&u](const std::string& name) {
    return u.kernel == name || u.kernel.starts_with(name + "<");
  });
  if (!hot || (u.stack == 0 && u.spill_stores == 0 && u.spill_loads == 0)) return "";
  return concat(u.kernel, " for ", u.architecture, ": ", u.stack, " bytes of stack, ", u.spill_stores,
                " of spill stores, ", u.spill_loads, " of spill loads\n");
}

TEST(CudaRegisters, HotKernelsDoNotSpill) {
  if (build_info().cuda.empty()) GTEST_SKIP() << "skipped: this build has no CUDA";
  std::map<std::string, int> kernels_of;  // by architecture
  std::string complaints, names;
  for (const auto& entry : fs::recursive_directory_iterator(ONDOL_PTXAS_DIRECTORY)) {
    if (entry.path().extension() != ".ptxas") continue;
    std::ifstream in(entry.path());
    for (const Usage& usage : parse_report(in)) {
      ++kernels_of[usage.architecture];
      complaints += complaint(usage);
      names += "\n" + usage.kernel + "<";
    }
  }
  EXPECT_EQ(complaints, "");
  ASSERT_FALSE(kernels_of.empty()) << "no reports in " << ONDOL_PTXAS_DIRECTORY;
  for (const auto& [architecture, kernels] : kernels_of) EXPECT_GE(kernels, 100) << architecture;
  for (const char* kernel : kHotKernels) {
    EXPECT_NE(names.find(concat("\n", kernel, "<")), std::string::npos) << kernel << " is not among the kernels";
  }
}

TEST(CudaRegisters, SpillsAreFound) {
  std::istringstream report(
      "ptxas info    : 0 bytes gmem\n"
      "ptxas info    : Compiling entry function '_ZN5ondol4cuda12_GLOBAL__N_111norm_kernelIfLi4ELb0EEEvNS_8NormArgsE' "
      "for 'sm_90a'\n"
      "ptxas info    : Function properties for _ZN5ondol4cuda12_GLOBAL__N_111norm_kernelIfLi4ELb0EEEvNS_8NormArgsE\n"
      "    8 bytes stack frame, 16 bytes spill stores, 24 bytes spill loads\n"
      "ptxas info    : Used 40 registers, used 1 barriers, 8 bytes cumulative stack size\n"
      "ptxas info    : Compiling entry function '_ZN5ondol4cuda12_GLOBAL__N_116sort_scan_kernelEPjl' for 'sm_80'\n"
      "    8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n");
  const std::vector<Usage> found = parse_report(report);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].registers, 40);
  EXPECT_EQ(complaint(found[0]),
            "norm_kernel<float, 4, false> for sm_90a: 8 bytes of stack, 16 of spill stores, 24 of spill loads\n");
  EXPECT_EQ(complaint(found[1]), "") << "not a hot kernel";
}

}  // namespace
}  // namespace ondol
