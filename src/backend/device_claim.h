// Who uses a device: two processes on one GPU work, but share its memory and slow each other down, mostly by mistake.
#pragma once

#include <string>

namespace ondol {

/// Notes in a lock file of this name that this process uses a device, until it ends. Returns the number of the process
/// that has noted so before, 0 when there is none, or when no note can be kept.
int claim_exclusively(const std::string& lock_file);

}  // namespace ondol
