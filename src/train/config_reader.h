// A configuration document to TrainConfig.
#pragma once

#include <ondol/train/config.h>

#include "base/json_reader.h"

namespace ondol {

TrainConfig read_train_config(const Json& document, const std::string& name);

}  // namespace ondol
