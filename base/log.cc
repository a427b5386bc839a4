#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <string>

namespace balloon::log {

Result<void> start(std::string_view name, std::string_view level) {
  if (level != "debug" && level != "info" && level != "warning" && level != "error") {
    return fail(fmt::format("log level '{}' is not one of debug, info, warning, error", level));
  }
  auto logger = std::make_shared<spdlog::logger>(std::string(name),
                                                 std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %n %^%l%$ %v");
  logger->set_level(spdlog::level::from_str(std::string(level)));
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
  return {};
}

void write(Level level, std::string_view message) {
  switch (level) {
    case Level::debug:
      return spdlog::debug(message);
    case Level::info:
      return spdlog::info(message);
    case Level::warning:
      return spdlog::warn(message);
    case Level::error:
      return spdlog::error(message);
  }
}

}  // namespace balloon::log
