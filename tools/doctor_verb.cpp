// ondol doctor: what this build contains, what the machine can do, and whether they work together.
#include <chrono>
#include <cstring>
#include <fstream>

#include <unistd.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <zlib.h>

#include <CLI/Version.hpp>

#include <ondol/backend/device_use.h>
#include <ondol/backend/devices.h>
#include <ondol/base/build_info.h>
#include <ondol/base/parallel.h>
#include <ondol/models/model.h>

#include "backend/cpu/isa.h"
#include "backend/cuda_details.h"
#include "json_output.h"
#include "self_test.h"
#include "train/peak_flops.h"
#include "verbs.h"

namespace {

using ondol::concat;

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

int64_t memory_bytes() { return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE); }

/// Bytes read and written a second by copying 128 MiB on all threads, best of five.
double copy_bandwidth() {
  constexpr int64_t kBytes = int64_t{128} << 20;
  const ondol::Tensor from = ondol::Tensor::zeros({kBytes}, ondol::DType::u8);
  const ondol::Tensor to = ondol::Tensor::zeros({kBytes}, ondol::DType::u8);
  double best = 0.0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    ondol::parallel_for(kBytes, int64_t{1} << 20, [&](int64_t begin, int64_t end) {
      std::memcpy(static_cast<char*>(to.raw()) + begin, static_cast<const char*>(from.raw()) + begin,
                  static_cast<size_t>(end - begin));
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, 2.0 * static_cast<double>(kBytes) / seconds.count());
  }
  return best;
}

std::string pcre2_version() {
  char text[64] = {};
  pcre2_config(PCRE2_CONFIG_VERSION, text);
  return text;
}

OrderedJson libraries() {
  OrderedJson found = {{"zlib", zlibVersion()},
                       {"PCRE2", pcre2_version()},
                       {"CLI11", CLI11_VERSION},
                       {"nlohmann_json", concat(NLOHMANN_JSON_VERSION_MAJOR, ".", NLOHMANN_JSON_VERSION_MINOR, ".",
                                                NLOHMANN_JSON_VERSION_PATCH)}};
  for (const auto& [name, version] : ondol::cuda_libraries()) found[name] = version;
  return found;
}

std::vector<ondol::DeviceDescription> gpus() {
  std::vector<ondol::DeviceDescription> devices = ondol::describe_devices();
  devices.erase(devices.begin());  // the CPU
  return devices;
}

OrderedJson gpus_json() {
  OrderedJson list = OrderedJson::array();
  for (const ondol::DeviceDescription& gpu : gpus()) {
    list.push_back({{"device", ondol::to_string(gpu.device)},
                    {"name", gpu.name},
                    {"compute_capability", gpu.architecture},
                    {"memory_bytes", gpu.memory_bytes},
                    {"multiprocessors", gpu.processors},
                    {"driver", gpu.driver}});
    const std::string warning = ondol::claim_device(gpu.device);
    if (!warning.empty()) list.back()["warning"] = warning;
  }
  return list;
}

OrderedJson self_test_json(ondol::Device device, bool& passed) {
  OrderedJson list = OrderedJson::array();
  for (const SelfTestResult& result : run_self_test(device)) {
    passed = passed && result.passed;
    list.push_back({{"device", ondol::to_string(device)},
                    {"name", result.name},
                    {"passed", result.passed},
                    {"error", result.error}});
    if (!result.message.empty()) list.back()["message"] = result.message;
  }
  return list;
}

OrderedJson collect(bool& passed) {
  const ondol::BuildInfo& build = ondol::build_info();
  OrderedJson report;
  report["build"] = {{"version", build.version},   {"build_type", build.build_type},
                     {"compiler", build.compiler}, {"cpu_instruction_sets", build.cpu_instruction_sets},
                     {"cuda", build.cuda},         {"cuda_architectures", build.cuda_architectures},
                     {"nccl", build.nccl},         {"mpi", build.mpi},
                     {"nvtx", build.nvtx}};
  report["cpu"] = {{"name", cpu_name()},
                   {"features", ondol::cpu::cpu_features()},
                   {"kernels", ondol::cpu::active_isa()},
                   {"threads", ondol::num_threads()},
                   {"memory_bytes", memory_bytes()}};
  const std::optional<double> flops = ondol::measured_peak_flops({}, ondol::DType::f32);
  report["cpu"]["fma_flops"] = flops ? OrderedJson(*flops) : OrderedJson(nullptr);
  report["cpu"]["copy_bytes_per_second"] = copy_bandwidth();
  report["gpus"] = gpus_json();
  const std::string problem = ondol::device_unavailable_reason(ondol::DeviceType::cuda);
  if (!problem.empty()) report["gpu_problem"] = problem;
  report["libraries"] = libraries();
  report["self_test"] = self_test_json({}, passed);
  for (const ondol::DeviceDescription& gpu : gpus()) {
    for (OrderedJson& result : self_test_json(gpu.device, passed)) {
      report["self_test"].push_back(std::move(result));
    }
  }
  report["passed"] = passed;
  return report;
}

std::string text_of(const OrderedJson& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

std::string readable_gpu(const OrderedJson& gpu) {
  std::string text =
      concat("  ", text_of(gpu["device"]), ": ", text_of(gpu["name"]), ", compute capability ",
             text_of(gpu["compute_capability"]), ", ", gpu["memory_bytes"].get<uint64_t>() >> 20, " MiB, ",
             gpu["multiprocessors"].get<int>(), " multiprocessors, driver for CUDA ", text_of(gpu["driver"]), "\n");
  if (gpu.contains("warning")) text += concat("  warning: ", text_of(gpu["warning"]), "\n");
  return text;
}

std::string readable(const OrderedJson& report) {
  std::string text;
  for (const auto& [section, content] : report.items()) {
    if (section == "self_test") continue;
    if (section == "gpus") {
      text += concat("gpus: ", content.size(), "\n");
      for (const OrderedJson& gpu : content) text += readable_gpu(gpu);
      continue;
    }
    if (!content.is_object()) {
      text += concat(section, ": ", text_of(content), "\n");
      continue;
    }
    text += section + "\n";
    for (const auto& [key, value] : content.items()) {
      const std::string shown = value.is_number_float() ? concat(value.get<double>() / 1e9, " G") : text_of(value);
      text += concat("  ", key, ": ", shown.empty() ? "none" : shown, "\n");
    }
  }
  text += "self test\n";
  for (const OrderedJson& result : report["self_test"]) {
    text += concat("  ", text_of(result["device"]), " ", text_of(result["name"]), ": ",
                   result["passed"].get<bool>() ? "ok" : "FAILED", result.contains("message") ? " " : "",
                   result.contains("message") ? text_of(result["message"]) : "", "\n");
  }
  return text;
}

void run_doctor(const GlobalOptions& global) {
  bool passed = true;
  const OrderedJson report = collect(passed);
  global.json ? write_json(report) : write_output(readable(report));
  if (!passed) throw ondol::Error("the self test failed: this build does not compute correctly on this machine");
}

}  // namespace

void add_doctor_verb(Program& program) {
  CLI::App* verb = program.app.add_subcommand("doctor", "Show build and machine, and test that they work");
  program.run_on(verb, [&program] { run_doctor(program.global); });
}
