// Logging: a thin front of spdlog, whose header is slow to compile. One line a message, to standard error.
#pragma once

#include <fmt/format.h>

#include <string_view>

#include "base/error.h"

namespace balloon::log {

enum class Level { debug, info, warning, error };

/// Sets up logging of the program `name`. `level`: debug, info, warning or error. Call once, before any
/// thread starts.
Result<void> start(std::string_view name, std::string_view level);

void write(Level level, std::string_view message);

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace balloon::log
