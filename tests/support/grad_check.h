// A case run on a device, compared with the oracle, and its gradients with central differences of the oracle in double.
#pragma once

#include <string>

#include "support/op_cases.h"

namespace ondol::testing {

/// What one run of a case gave. Cases without a backward have no gradients.
struct CaseRun {
  std::vector<Tensor> inputs, outputs;
  std::vector<Tensor> upstream;   // gradients of the first outputs, from a generator (1 where the case asks for it)
  std::vector<Tensor> gradients;  // of the differentiable inputs
};
CaseRun run_case(const OpCase& c, Device device = {});

/// The bytes of every output and gradient.
std::vector<char> result_bytes(const CaseRun& run);

/// Empty when every output agrees with the oracle: each element's error is at most twice the largest error of the naive
/// low-precision implementation, plus a floor of a few roundings. Otherwise one line about the worst element.
std::string compare_outputs(const OpCase& c, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs);

/// Empty when the gradients agree with central differences; at most `samples` elements of each input are varied, spread
/// over it.
std::string check_gradients(const OpCase& c, const CaseRun& run, int samples);

/// Both of them.
std::string check_case(const OpCase& c, const CaseRun& run, int samples);

}  // namespace ondol::testing
