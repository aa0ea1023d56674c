// Checkpoints from one file format into another, tensor by tensor.
//
//   convert_model("path/to/model", "model.gguf", {.dtype = "q8_0"});
//   convert_model("model.gguf", "path/to/directory");
//
// Sources: a Hugging Face directory, a GGUF file, a llama2.c checkpoint (.bin, with the tokenizer.bin beside it). The
// destination is a GGUF file when its name ends with .gguf, else a directory. Configuration, tokenizer and chat
// template come along. Memory is bounded by the largest tensor. Nothing is left behind when it fails.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ondol {

struct ConvertOptions {
  /// "f32", "bf16", "f16"; into GGUF also "q8_0" and "q4_0", for the matrices whose rows are whole blocks (the others
  /// become F16). Empty: as they are; what is quantised becomes f32 in a directory.
  std::string dtype;
  uint64_t max_shard_bytes = 5'000'000'000;
  std::string adapter;  // an adapter directory (models/lora.h) that is merged into the weights; "": none
  /// Model directories (checkpoints of one run) whose weights are averaged with those of the source, in f64.
  std::vector<std::string> average;
};

struct ConvertResult {
  int64_t tensors = 0;
  uint64_t bytes = 0;  // of the tensors in the destination
};

/// Throws UsageError for combinations that are not supported, before anything is written.
ConvertResult convert_model(const std::string& source, const std::string& destination,
                            const ConvertOptions& options = {});

}  // namespace ondol
