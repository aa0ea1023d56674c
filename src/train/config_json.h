// Sections of a configuration as JSON with every default written out.
#pragma once

#include <nlohmann/json.hpp>

#include <ondol/train/config.h>

namespace ondol {

nlohmann::ordered_json data_json(const DataConfig& data);

}  // namespace ondol
