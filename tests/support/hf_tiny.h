// The reference models that are checked (directories of hf_tiny). A directory of a supported model type that is missing
// here fails models/hf_tiny_test.cpp.
#pragma once

#include <string>
#include <vector>

namespace ondol::testing {

inline const std::vector<std::string> kCausalReferences = {"gpt2", "llama", "llama-gqa", "llama3-rope"};
inline const std::vector<std::string> kEncoderReferences = {"bert",
                                                            "bert-mlm",
                                                            "roberta",
                                                            "distilbert",
                                                            "electra-discriminator",
                                                            "electra-generator",
                                                            "bert-sequence-classification",
                                                            "bert-token-classification",
                                                            "bert-question-answering",
                                                            "roberta-sequence-classification"};

inline const std::vector<std::string> kEncoderDecoderReferences = {"t5", "t5-v1_1", "bart", "mbart", "marian"};
/// Models without a loss.
inline const std::vector<std::string> kBareReferences = {"t5-encoder"};

/// Those whose training is known.
inline std::vector<std::string> trained_references() {
  std::vector<std::string> all = kCausalReferences;
  all.insert(all.end(), kEncoderReferences.begin(), kEncoderReferences.end());
  all.insert(all.end(), kEncoderDecoderReferences.begin(), kEncoderDecoderReferences.end());
  return all;
}

inline std::vector<std::string> all_references() {
  std::vector<std::string> all = trained_references();
  all.insert(all.end(), kBareReferences.begin(), kBareReferences.end());
  return all;
}

/// For the names of parametrised tests.
inline std::string reference_test_name(std::string name) {
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
}

}  // namespace ondol::testing
