// The "data" section of a training configuration.
#pragma once

#include <ondol/data/data_loader.h>

#include "base/json_reader.h"

namespace ondol {

/// Reads every key of the section; `data` is the reader of the section itself.
DataConfig read_data_config(const JsonReader& data);

}  // namespace ondol
