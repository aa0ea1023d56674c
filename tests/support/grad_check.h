// Comparison of an op's results with the oracle, and of its gradients with central differences of the oracle in double.
#pragma once

#include <string>

#include "support/op_cases.h"

namespace ondol::testing {

/// Empty when every output agrees with the oracle: each element's error is at most twice the largest error of the naive
/// low-precision implementation, plus a floor of a few roundings. Otherwise one line about the worst element.
std::string compare_outputs(const OpCase& c, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs);

/// Empty when the backward of the case agrees with central differences; at most `samples` elements of each input are
/// varied, spread over it.
std::string check_gradients(const OpCase& c, const std::vector<Tensor>& inputs, const OpResult& result, int samples);

}  // namespace ondol::testing
