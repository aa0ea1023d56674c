// Truncation and padding: their sections of tokenizer.json, and padding itself.
#include <algorithm>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/tokenizer_files.h"

namespace ondol {

namespace tokenization {

namespace {

constexpr int64_t kMaxLength = int64_t{1} << 31;

int64_t length_at(const Json& spec, const char* key, int64_t least, const std::string& where) {
  const int64_t length = integer_at(spec, key, where);
  if (length < least || length > kMaxLength) {
    throw UsageError(concat('"', key, "\" must be between ", least, " and ", kMaxLength, " (", where, ")"));
  }
  return length;
}

bool is_left(const Json& spec, const std::string& where) {
  const std::string direction = string_at(spec, "direction", "Right", where);
  if (direction != "Left" && direction != "Right") {
    throw UsageError(concat("\"direction\" must be Left or Right, not \"", direction, "\" (", where, ")"));
  }
  return direction == "Left";
}

}  // namespace

std::optional<TruncationSettings> read_truncation(const Json& spec, const std::string& name) {
  if (spec.is_null()) return std::nullopt;
  const std::string where = name + ", truncation";
  TruncationSettings settings;
  settings.max_length = length_at(spec, "max_length", 0, where);
  if (spec.contains("stride")) settings.stride = length_at(spec, "stride", 0, where);
  const std::string strategy = string_at(spec, "strategy", "LongestFirst", where);
  const std::pair<const char*, TruncationStrategy> strategies[] = {{"LongestFirst", TruncationStrategy::longest_first},
                                                                   {"OnlyFirst", TruncationStrategy::only_first},
                                                                   {"OnlySecond", TruncationStrategy::only_second}};
  const auto known = std::find_if(std::begin(strategies), std::end(strategies),
                                  [&](const auto& entry) { return strategy == entry.first; });
  if (known == std::end(strategies)) throw UsageError(concat("unknown strategy \"", strategy, "\" (", where, ")"));
  settings.strategy = known->second;
  settings.left = is_left(spec, where);
  return settings;
}

std::optional<PaddingSettings> read_padding(const Json& spec, const std::string& name) {
  if (spec.is_null()) return std::nullopt;
  const std::string where = name + ", padding";
  PaddingSettings settings;
  settings.left = is_left(spec, where);
  settings.pad_id = static_cast<int32_t>(length_at(spec, "pad_id", 0, where) & INT32_MAX);
  settings.pad_type_id = static_cast<int32_t>(length_at(spec, "pad_type_id", 0, where) & INT32_MAX);
  if (const auto multiple = spec.find("pad_to_multiple_of"); multiple != spec.end() && !multiple->is_null()) {
    settings.multiple_of = std::max<int64_t>(1, length_at(spec, "pad_to_multiple_of", 0, where));
  }
  const auto strategy = spec.find("strategy");
  if (strategy != spec.end() && strategy->is_object()) {
    settings.length = length_at(*strategy, "Fixed", 0, where + ".strategy");
  } else if (string_at(spec, "strategy", where) != "BatchLongest") {
    throw UsageError(concat("\"strategy\" must be \"BatchLongest\" or {\"Fixed\": length} (", where, ")"));
  }
  return settings;
}

}  // namespace tokenization

void pad_encodings(std::span<Encoding> encodings, const PaddingSettings& settings) {
  auto length = static_cast<size_t>(settings.length);
  if (settings.length <= 0) {
    length = 0;
    for (const Encoding& encoding : encodings) length = std::max(length, encoding.ids.size());
  }
  const auto multiple = static_cast<size_t>(std::max<int64_t>(1, settings.multiple_of));
  length = (length + multiple - 1) / multiple * multiple;
  for (Encoding& encoding : encodings) {
    const size_t count = encoding.ids.size();
    encoding.attention_mask.assign(count, 1);
    if (count >= length) continue;
    const auto pad = [&](auto& values, auto value) {
      if (values.size() == count) values.insert(settings.left ? values.begin() : values.end(), length - count, value);
    };
    pad(encoding.type_ids, settings.pad_type_id);
    pad(encoding.offsets, TextRange{});
    pad(encoding.special_mask, uint8_t{1});
    pad(encoding.word_ids, -1);
    pad(encoding.sequence_ids, -1);
    pad(encoding.attention_mask, uint8_t{0});
    pad(encoding.ids, settings.pad_id);
  }
}

}  // namespace ondol
