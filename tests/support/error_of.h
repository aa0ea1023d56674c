// What an action complains of.
#pragma once

#include <string>

#include <ondol/base/error.h>

namespace ondol::testing {

/// The message of the ondol::Error that the action throws, or "no error".
template <class Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace ondol::testing
