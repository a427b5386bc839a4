// SPDX-License-Identifier: Apache-2.0
// Logging: a thin front of spdlog, whose header is slow to compile. One line a message, to standard error, by
// a thread of its own: nobody who logs waits for who reads (line_writer.h), and what others cause is written
// in bounded amounts.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace balloon::log {

enum class Level { debug, info, warning, error };

/// Who caused a line. Each source has a burst of 100 lines and then one a second; all of them together 1,000
/// and then 20 a second. Who is not limited has an empty name: the program itself.
struct Source {
  std::string name;
};

/// Sets up logging of the program `name`. `level`: debug, info, warning or error. Call once, before any
/// thread starts. What waits to be written when the program exits gets half a second.
Result<void> start(std::string_view name, std::string_view level);

/// Whether lines of this level are written.
bool is_on(Level level);
void write(Level level, const Source& source, std::string_view message);

/// Lines that are not in the log.
struct Losses {
  std::uint64_t not_taken = 0;  ///< standard error did not take them
  std::uint64_t limited = 0;    ///< their source had used up its share
};
Losses losses();

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (is_on(Level::debug)) write(Level::debug, {}, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::info, {}, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::warning, {}, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::error, {}, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(const Source& source, fmt::format_string<Args...> format, Args&&... args) {
  write(Level::info, source, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warning(const Source& source, fmt::format_string<Args...> format, Args&&... args) {
  write(Level::warning, source, fmt::format(format, std::forward<Args>(args)...));
}

/// Lines for the log that are written when this goes. Declared before a lock is taken, it keeps logging out
/// of the time in which the lock is held.
class Later {
 public:
  Later() = default;
  ~Later() {
    for (const Line& line : lines_) write(line.level, line.source, line.text);
  }
  Later(const Later&) = delete;
  Later& operator=(const Later&) = delete;

  template <typename... Args>
  void debug(Source source, fmt::format_string<Args...> format, Args&&... args) {
    if (is_on(Level::debug)) add(Level::debug, std::move(source), format, std::forward<Args>(args)...);
  }
  template <typename... Args>
  void info(Source source, fmt::format_string<Args...> format, Args&&... args) {
    add(Level::info, std::move(source), format, std::forward<Args>(args)...);
  }
  template <typename... Args>
  void warning(Source source, fmt::format_string<Args...> format, Args&&... args) {
    add(Level::warning, std::move(source), format, std::forward<Args>(args)...);
  }

 private:
  struct Line {
    Level level;
    Source source;
    std::string text;
  };
  template <typename... Args>
  void add(Level level, Source source, fmt::format_string<Args...> format, Args&&... args) {
    lines_.push_back({level, std::move(source), fmt::format(format, std::forward<Args>(args)...)});
  }

  std::vector<Line> lines_;
};

}  // namespace balloon::log
