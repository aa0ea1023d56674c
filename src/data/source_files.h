// From the sources of a configuration to samples: file kinds, the token cache, fingerprints, the validation part.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ondol/data/data_loader.h>

#include "data/sample_source.h"

namespace ondol::detail {

struct OpenedSource {
  std::string name;  // for describe and errors
  double weight = 1, final_weight = 1;
  std::unique_ptr<SampleSource> samples;
  uint64_t fingerprint = 0;  // of the content
};

/// The sources of one split: one a weighted entry, or one for all unweighted entries.
std::vector<OpenedSource> open_sources(const DataConfig& config, DataSplit split, const DataContext& context);

}  // namespace ondol::detail

namespace ondol {

/// Every structured example of the training data as the files have it.
void for_each_training_record(const DataConfig& config, const std::function<void(const Record&)>& visit);

}  // namespace ondol
