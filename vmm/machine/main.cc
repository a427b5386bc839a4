// SPDX-License-Identifier: Apache-2.0
// balloon-vmm: one process, one guest.
#include <malloc.h>

#include <cstdio>
#include <optional>
#include <utility>

#include "base/command_line.h"
#include "base/log.h"
#include "vmm/machine/cli.h"
#include "vmm/machine/config.h"
#include "vmm/machine/daemonize.h"
#include "vmm/machine/supervisor.h"
#include "vmm/memory/lost_memory.h"

int main(int argc, char** argv) {
  using namespace balloon;
  // One heap for all threads: a heap of its own for each would cost more memory than their waiting for each
  // other costs time.
  ::mallopt(M_ARENA_MAX, 1);
  const auto line = vmm::parse_command_line(argc, argv);
  if (line.exit_status) return *line.exit_status;
  const auto config = vmm::make_config(line.flags);
  if (!config) {
    std::fprintf(stderr, "balloon-vmm: %s\n", config.error().message.c_str());
    return vmm::kExitUsage;
  }
  if (line.check_config) {
    std::puts("ok");
    return command_line::finish(0, "balloon-vmm");
  }
  std::optional<vmm::Daemonize> background;
  if (config->daemonize) {
    auto begun = vmm::Daemonize::begin();
    if (!begun) {
      std::fprintf(stderr, "balloon-vmm: %s\n", begun.error().message.c_str());
      return vmm::kExitFailure;
    }
    background.emplace(std::move(*begun));
  }
  if (const auto started = log::start("balloon-vmm", config->log_level); !started) {
    std::fprintf(stderr, "balloon-vmm: %s\n", started.error().message.c_str());
    return vmm::kExitUsage;
  }
  vmm::block_ending_signals();
  vmm::tell_of_lost_memory(config->name);
  vmm::PidFile pid_file;
  const auto on_running = [&]() -> Result<void> {
    if (!config->pid_file.empty()) BALLOON_TRY(pid_file.write(config->pid_file));
    return background ? background->ready() : Result<void>{};
  };
  if (const auto done = vmm::run_vmm(*config, on_running); !done) {
    std::fprintf(stderr, "balloon-vmm: %s\n", done.error().message.c_str());
    return vmm::kExitFailure;
  }
  return 0;
}
