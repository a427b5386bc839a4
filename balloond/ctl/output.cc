// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/output.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "balloond/ctl/json.h"
#include "base/standard_output.h"

namespace balloon::ctl {

const char* name_of(Exit code) {
  switch (code) {
    case Exit::ok:
      return "ok";
    case Exit::failure:
      return "failure";
    case Exit::usage:
      return "usage";
    case Exit::not_found:
      return "not_found";
    case Exit::refused:
      return "refused";
    case Exit::unreachable:
      return "unreachable";
  }
  return "failure";
}

std::string error_json(const CallError& error) {
  return json_text({{"error",
                     {{"code", static_cast<int>(error.code)},
                      {"kind", name_of(error.code)},
                      {"message", error.message}}}});
}

void Output::answer(const nlohmann::ordered_json& json, const std::function<std::string()>& text) {
  if (format_ == Format::json) return print(json_text(json));
  if (format_ == Format::yaml) return print(yaml_text(json));
  print(text());
}

void Output::print(const std::string& text) {
  if (failed_) return;
  const auto printed = print_output(text);
  if (printed) return;
  failed_ = true;
  complain({Exit::failure, printed.error().message});
}

void Output::complain(const CallError& error) {
  if (for_programs()) {
    fmt::print(stderr, "{}", error_json(error));
  } else {
    fmt::print(stderr, "balloonctl: {}\n", error.message);
  }
}

}  // namespace balloon::ctl
