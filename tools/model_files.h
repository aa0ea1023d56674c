// Models and tokenizers as the verbs take them.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <ondol/models/model.h>
#include <ondol/tokenizer/tokenizer.h>

#include "verbs.h"

/// Loads MODEL_DIR on the device and in the dtype of the global flags.
std::unique_ptr<ondol::Model> load_model_directory(const std::string& directory, const GlobalOptions& global);

/// The tokenizer of MODEL_DIR. Throws UsageError when it knows ids beyond the model's embedding.
ondol::Tokenizer load_model_tokenizer(const std::string& directory, const ondol::Model& model);

/// The same, or nothing when there is none that can be read.
std::optional<ondol::Tokenizer> find_model_tokenizer(const std::string& directory, const ondol::Model& model);
