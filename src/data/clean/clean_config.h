// The JSON form of a CleanConfig (docs/data.md).
#pragma once

#include <ondol/data/clean.h>

#include "base/json_reader.h"

namespace ondol::clean {

/// `name` is that of the file, for errors. Throws UsageError.
CleanConfig read_clean_config(const Json& document, const std::string& name);

}  // namespace ondol::clean
