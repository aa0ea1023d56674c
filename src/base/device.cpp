#include <ondol/base/device.h>

#include <charconv>

#include <ondol/base/error.h>

namespace ondol {

std::string to_string(Device device) {
  return device.type == DeviceType::cpu ? "cpu" : concat("cuda:", device.index);
}

Device device_from_name(const std::string& name) {
  if (name == "cpu") return {};
  if (name == "cuda") return {DeviceType::cuda, 0};
  if (name.starts_with("cuda:")) {
    int index = -1;
    const char* first = name.data() + 5;
    const char* last = name.data() + name.size();
    const auto [end, error] = std::from_chars(first, last, index);
    if (error == std::errc{} && end == last && first != last && index >= 0) return {DeviceType::cuda, index};
  }
  throw UsageError(concat("unknown device \"", name, "\""), "use auto, cpu, cuda or cuda:N");
}

}  // namespace ondol
