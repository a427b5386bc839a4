// SPDX-License-Identifier: Apache-2.0
// balloonctl: what a person types.
#include <signal.h>

#include <clocale>

#include "balloond/ctl/commands.h"
#include "base/command_line.h"
#include "base/standard_output.h"

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_DFL);  // `balloonctl watch | head` ends quietly
  balloon::hold_standard_files();
  std::setlocale(LC_CTYPE, "");  // how wide letters are
  const auto line = balloon::ctl::parse_command_line(argc, argv);
  if (line.exit_status) return *line.exit_status;
  balloon::ctl::Commands commands(line.arguments);
  const int status = (commands.*line.command)();
  if (commands.failed()) return balloon::command_line::kExitFailure;
  return balloon::command_line::finish(status, "balloonctl");
}
