// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>

#include "base/line_writer.h"
#include "base/rate_limit.h"

namespace balloon::log {
namespace {

/// A process that comes, is pinned and goes writes a dozen lines; a line a second of 150 bytes is 13 MB a
/// day.
constexpr Rate kEachSource{.burst = 100, .per_second = 1};
/// A host of a thousand guests that all come at once has its lines; a day of storms has 260 MB.
constexpr Rate kAllSources{.burst = 1000, .per_second = 20};

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warning:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

std::string formatted(spdlog::formatter& formatter, const spdlog::details::log_msg& message, bool colours) {
  spdlog::memory_buf_t text;
  formatter.format(message, text);
  std::string line(text.data(), text.size());
  if (colours && message.color_range_end > message.color_range_start) {
    constexpr std::string_view yellow = "\033[33m", red = "\033[31m", plain = "\033[0m";
    if (message.level < spdlog::level::warn) return line;
    line.insert(message.color_range_end, plain);
    line.insert(message.color_range_start, message.level == spdlog::level::warn ? yellow : red);
  }
  return line;
}

/// Hands lines to the thread that writes them.
class WriterSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit WriterSink(const std::string& name)
      : name_(name), writer_(STDERR_FILENO, [this](std::uint64_t lost) { return notice(lost); }) {}

  std::uint64_t lost() const { return writer_.lost(); }
  void drain() { writer_.drain(LineWriter::kDrainMax); }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    writer_.add(formatted(*formatter_, message, colours_), message.level >= spdlog::level::warn
                                                               ? LineWriter::Weight::important
                                                               : LineWriter::Weight::ordinary);
  }
  void flush_() override {}

 private:
  std::string notice(std::uint64_t lost) {
    const std::string text =
        fmt::format("{} lines are lost here: standard error did not take them in time", lost);
    return formatted(*notice_formatter_,
                     spdlog::details::log_msg(name_, spdlog::level::warn, spdlog::string_view_t(text)),
                     colours_);
  }
  /// Called by start() alone.
  void set_formatter_(std::unique_ptr<spdlog::formatter> formatter) override {
    notice_formatter_ =
        formatter->clone();  // for the writer's thread: a formatter keeps the last second's text
    formatter_ = std::move(formatter);
  }

  const std::string name_;
  const bool colours_ = ::isatty(STDERR_FILENO) == 1;
  std::unique_ptr<spdlog::formatter> notice_formatter_ = formatter_->clone();
  LineWriter writer_;
};

/// Never destroyed: the writer's thread may be stuck in a write when the program exits.
std::shared_ptr<WriterSink>& sink() {
  static auto* const the_sink = new std::shared_ptr<WriterSink>();
  return *the_sink;
}

std::atomic<std::uint64_t> limited{0};

/// Whether `source` may write a line; notes what was held back of it before.
bool has_share(const Source& source, Level level) {
  static auto* const mutex = new std::mutex();
  static auto* const limit = new RateLimit(kEachSource, kAllSources, std::chrono::steady_clock::now());
  std::uint64_t held_back = 0;
  {
    const std::lock_guard lock(*mutex);
    if (!limit->take(source.name, std::chrono::steady_clock::now(), held_back)) {
      ++limited;
      return false;
    }
  }
  if (held_back > 0)
    spdlog::log(to_spdlog(level), "{}: {} lines were left out, it causes too many", source.name, held_back);
  return true;
}

}  // namespace

Result<void> start(std::string_view name, std::string_view level) {
  if (level != "debug" && level != "info" && level != "warning" && level != "error") {
    return fail(fmt::format("log level '{}' is not one of debug, info, warning, error", level));
  }
  sink() = std::make_shared<WriterSink>(std::string(name));
  auto logger = std::make_shared<spdlog::logger>(std::string(name), sink());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %n %^%l%$ %v");
  logger->set_level(spdlog::level::from_str(std::string(level)));
  spdlog::set_default_logger(std::move(logger));
  std::atexit([] { sink()->drain(); });
  return {};
}

bool is_on(Level level) { return spdlog::default_logger_raw()->should_log(to_spdlog(level)); }

void write(Level level, const Source& source, std::string_view message) {
  if (!is_on(level)) return;
  if (!source.name.empty() && !has_share(source, level)) return;
  spdlog::log(to_spdlog(level), message);
}

Losses losses() { return {.not_taken = sink() ? sink()->lost() : 0, .limited = limited}; }

}  // namespace balloon::log
