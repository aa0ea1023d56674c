#include "output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <ondol/base/error.h>

namespace {

LogLevel& current_level() {
  static LogLevel level = LogLevel::info;
  return level;
}

void check_output(bool written) {
  if (written) return;
  if (errno == EPIPE) throw OutputClosed();
  throw ondol::Error(ondol::concat("cannot write to standard output: ", std::strerror(errno)));
}

}  // namespace

void write_output(std::string_view text) {
  check_output(std::fwrite(text.data(), 1, text.size(), stdout) == text.size());
}

void flush_output() { check_output(std::fflush(stdout) == 0); }

LogLevel log_level_from_name(const std::string& name) {
  const char* names[] = {"error", "warning", "info", "debug"};
  for (int i = 0; i < 4; ++i) {
    if (name == names[i]) return static_cast<LogLevel>(i);
  }
  throw ondol::UsageError(ondol::concat("unknown log level \"", name, "\" (--log-level)"),
                          "use error, warning, info or debug");
}

void set_log_level(LogLevel level) { current_level() = level; }
LogLevel log_level() { return current_level(); }

void log(LogLevel level, std::string_view line) {
  if (level > current_level()) return;
  std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
}

std::string one_line(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}
