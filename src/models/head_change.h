// The configuration of a model that gets another head.
#pragma once

#include <ondol/models/model.h>

#include "base/json_reader.h"

namespace ondol {

struct HeadChange {
  Json config;
  bool fresh = false;  // the head is another one: what files hold of theirs is not loaded
};

/// `config` with the architecture, labels and kind of problem that are asked for. A head that is there already, with
/// the same labels, stays. Throws UsageError when the family has no such head.
HeadChange change_head(const JsonReader& config, const HeadRequest& request);

}  // namespace ondol
