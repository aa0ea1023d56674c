// Captured work in the emulation: calls are kept as closures instead of being made, and made again by each replay.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace ondol::emulation {

struct Recording {
  std::vector<std::function<void()>> calls;
  std::vector<void*> workspaces;  // kept as long as the calls may be replayed
};

/// From now on submit() keeps calls, until end_recording().
void begin_recording();
Recording end_recording();
bool recording();

/// Makes a call that a stream would make in its order: a launch, a copy, a fill.
void submit(std::function<void()> call);

/// A call that a stream under capture refuses. Throws while recording.
void forbid_while_recording(const char* call);

/// Released now, or with the recording.
void release_workspace_memory(void* memory) noexcept;

}  // namespace ondol::emulation
