#include "tokenizer/bpe_json.h"

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

namespace ondol::tokenization {

std::vector<BpeMerge> numbered_merges(const Json& spec, const StringTable& vocabulary,
                                      const std::vector<std::pair<std::string, std::string>>& merges,
                                      const std::string& where) {
  if (const auto dropout = spec.find("dropout"); dropout != spec.end() && !dropout->is_null() && *dropout != 0) {
    throw UsageError(concat("\"dropout\" is not supported (", where, ")"));
  }
  std::vector<BpeMerge> numbered;
  numbered.reserve(merges.size());
  for (const auto& [left, right] : merges) {
    const int32_t left_id = vocabulary.find(left), right_id = vocabulary.find(right);
    if (left_id < 0 || right_id < 0) {
      throw UsageError(concat("merge ", numbered.size(), " names \"", left_id < 0 ? left : right,
                              "\", which is not in the vocabulary (", where, ".merges)"));
    }
    numbered.push_back({left_id, right_id, static_cast<uint32_t>(numbered.size())});
  }
  return numbered;
}

}  // namespace ondol::tokenization
