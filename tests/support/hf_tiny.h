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

inline std::vector<std::string> all_references() {
  std::vector<std::string> all = kCausalReferences;
  all.insert(all.end(), kEncoderReferences.begin(), kEncoderReferences.end());
  return all;
}

/// For the names of parametrised tests.
inline std::string reference_test_name(std::string name) {
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
}

}  // namespace ondol::testing
