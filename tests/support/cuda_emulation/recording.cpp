#include "recording.h"

#include <memory>
#include <utility>

#include <ondol/base/error.h>

#include "emulator.h"

namespace ondol::emulation {

namespace {
std::unique_ptr<Recording> current_recording;
}

void begin_recording() {
  if (current_recording != nullptr) throw_error("emulated capture: the stream is being captured already");
  current_recording = std::make_unique<Recording>();
}

Recording end_recording() {
  if (current_recording == nullptr) throw_error("emulated capture: nothing is being captured");
  return std::move(*std::exchange(current_recording, nullptr));
}

bool recording() { return current_recording != nullptr; }

void submit(std::function<void()> call) {
  if (current_recording == nullptr) return call();
  current_recording->calls.push_back(std::move(call));
}

void forbid_while_recording(const char* call) {
  if (recording()) throw_error("emulated capture: ", call, " while a stream is captured");
}

void release_workspace_memory(void* memory) noexcept {
  if (recording()) {
    current_recording->workspaces.push_back(memory);
  } else {
    release_later_error(memory);
  }
}

}  // namespace ondol::emulation
