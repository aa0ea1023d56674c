#include "model_files.h"

#include <filesystem>

#include <ondol/base/error.h>

#include "output.h"

using ondol::concat;
using ondol::UsageError;

std::unique_ptr<ondol::Model> load_model_directory(const std::string& directory, const GlobalOptions& global) {
  namespace fs = std::filesystem;
  const fs::path path(directory);
  if (fs::exists(path / "metrics.jsonl") && !fs::exists(path / "model.safetensors")) {
    throw UsageError(concat("cannot load model: this is a run directory (", directory, ")"),
                     fs::exists(path / "final") ? concat("its model is ", (path / "final").string())
                                                : "give one of its checkpoint directories");
  }
  std::unique_ptr<ondol::Model> model =
      ondol::load_model(directory, {.device = global.device, .dtype = global.dtype()});
  log(LogLevel::debug, concat(model->info().architecture, ", ", model->parameters().count(), " parameters, ",
                              ondol::dtype_name(model->dtype()), " on ", ondol::to_string(model->device())));
  return model;
}

ondol::Tokenizer load_model_tokenizer(const std::string& directory, const ondol::Model& model) {
  ondol::Tokenizer tokenizer = ondol::load_tokenizer(directory);
  if (tokenizer.vocab_size() > model.info().vocab_size) {
    throw UsageError(concat("the tokenizer has ", tokenizer.vocab_size(), " tokens, but the model's embedding only ",
                            model.info().vocab_size, " rows (", directory, ")"));
  }
  return tokenizer;
}

std::optional<ondol::Tokenizer> find_model_tokenizer(const std::string& directory, const ondol::Model& model) {
  try {
    return load_model_tokenizer(directory, model);
  } catch (const ondol::Error& error) {
    log(LogLevel::debug, concat("no tokenizer: ", error.what()));
    return std::nullopt;
  }
}
