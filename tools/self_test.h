// A few operations against values known beforehand: does this build compute on this machine?
#pragma once

#include <string>
#include <vector>

#include <ondol/base/device.h>

struct SelfTestResult {
  std::string name;
  double error = 0.0;  // largest difference from the known values
  bool passed = false;
  std::string message;  // why it could not run
};

std::vector<SelfTestResult> run_self_test(ondol::Device device);
