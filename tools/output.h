// The two streams of the program: results on standard output, everything else on standard error.
#pragma once

#include <exception>
#include <string>
#include <string_view>

/// The reader of standard output has gone (a closed pipe). Ends the program without a message.
struct OutputClosed : std::exception {
  const char* what() const noexcept override { return "standard output was closed"; }
};

/// Writes to standard output. Throws OutputClosed, or Error when the system reports another failure (a full disk).
void write_output(std::string_view text);
/// Hands what is buffered to the system; the same errors.
void flush_output();

enum class LogLevel { error, warning, info, debug };

/// Throws UsageError for another name than error, warning, info, debug.
LogLevel log_level_from_name(const std::string& name);
void set_log_level(LogLevel level);
LogLevel log_level();

/// One line on standard error when the level is at or below the one that was set.
void log(LogLevel level, std::string_view line);

/// `text` as one line: line ends and other control characters become spaces.
std::string one_line(std::string_view text);
