#include "ops/index_checks.h"

namespace ondol::ops {

namespace {

[[noreturn]] void throw_out_of_range(const char* op, const char* name, const Tensor& index, int64_t limit, int64_t at) {
  const int32_t value = index.data<int32_t>()[at];
  std::string place;
  int64_t rest = at;
  for (int d = index.ndim() - 1; d >= 0; --d) {
    place = std::to_string(rest % index.size(d)) + (place.empty() ? "" : ", ") + place;
    rest /= index.size(d);
  }
  throw_error("[", op, "] ", name, " ", value, " at (", place, ") of ", index.shape(), " is outside [0, ", limit, ")");
}

}  // namespace

void check_range_on_host(const char* op, const char* name, const Tensor& index, int64_t limit) {
  if (index.device().type != DeviceType::cpu) return;
  const int32_t* values = index.data<int32_t>();
  const int64_t count = index.numel();
  bool bad = false;
  for (int64_t i = 0; i < count; ++i) bad |= values[i] < 0 || values[i] >= limit;
  for (int64_t i = 0; bad && i < count; ++i) {
    if (values[i] < 0 || values[i] >= limit) throw_out_of_range(op, name, index, limit, i);
  }
}

void check_range_on_host(const char* op, const char* name, const Tensor& index, int64_t limit, int32_t exempt) {
  if (index.device().type != DeviceType::cpu) return;
  const int32_t* values = index.data<int32_t>();
  for (int64_t i = 0; i < index.numel(); ++i) {
    if (values[i] != exempt && (values[i] < 0 || values[i] >= limit)) throw_out_of_range(op, name, index, limit, i);
  }
}

}  // namespace ondol::ops
