// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/cli.h"

#include <CLI/CLI.hpp>

#include "base/command_line.h"

namespace balloon::vmm {

CommandLine parse_command_line(int argc, char** argv) {
  CommandLine line;
  Flags& flags = line.flags;
  CLI::App app("balloon-vmm: runs one guest on KVM, with a balloon that the host can move.", "balloon-vmm");
  app.set_version_flag("--version", "balloon-vmm " BALLOON_VERSION);
  const auto repeated = [&](const char* flag, std::vector<std::string>& into, const char* help) {
    app.add_option(flag, into, help)->type_size(1)->allow_extra_args(false);
  };
  app.add_option("--config", flags.config, "YAML file with any of the settings below; flags win over it");
  app.add_flag(
      "--check-config", line.check_config,
      "Check file and flags without opening what they name, say ok or every complaint, and exit with 0 or 2");
  app.add_option("--name", flags.name, "The guest's name: 1 to 64 characters of A-Z a-z 0-9 . _ -");
  app.add_option("--memory", flags.memory, "Its memory, for example 2GiB: a multiple of 2 MiB, from 64 MiB");
  app.add_option("--memory-backing", flags.memory_backing,
                 "[huge-pages=off|transparent|2MiB|1GiB][,shared=on|off][,merge=on|off][,reserve=on|off]"
                 "[,preallocate=on|off][,lock=on|off]: what it is made of (default transparent, all off)");
  app.add_option("--cpus", flags.cpus, "Its virtual CPUs, 1 to 64 (default 1)");
  app.add_option("--kernel", flags.kernel, "bzImage, or an ELF vmlinux with a PVH note");
  app.add_option("--initrd", flags.initrd, "Initial RAM disk");
  app.add_option("--cmdline", flags.cmdline, "The kernel's command line");
  repeated(
      "--disk", flags.disks,
      "path=FILE[,readonly][,serial=TEXT][,format=raw|qcow2][,cache=writeback|writethrough|none] and more "
      "(docs/disks.md); repeatable");
  repeated("--net", flags.nets,
           "tap=NAME or fds=N[:N...], [,mac=AA:BB:CC:DD:EE:FF][,queues=N][,vhost=on|off|force] and more "
           "(docs/net.md); repeatable");
  app.add_option("--serial", flags.serial,
                 "stdio[,keys=escape|signals|raw] (default), none, pty[:LINK], file:PATH or unix:PATH");
  app.add_option("--console", flags.console, "The virtio console, likewise (default none)");
  app.add_option("--rng", flags.rng, "on (default), off, or bytes-per-second=SIZE");
  app.add_option("--balloon", flags.balloon,
                 "off, or "
                 "[id=NAME][,addr=SLOT][,target=SIZE][,deflate-on-oom=on|off][,free-page-reporting=on|off][,"
                 "free-page-hinting=on|off]");
  app.add_option(
      "--virtio", flags.virtio,
      "modern (default), transitional, legacy (for old guests) or mmio (no PCI); ,packed=on offers packed "
      "rings (docs/virtio.md)");
  app.add_option("--link", flags.link, "Unix socket of balloond");
  app.add_option("--monitor", flags.monitor, "Unix socket to listen on for QMP clients (docs/monitor.md)");
  app.add_option("--restore", flags.restore,
                 "Snapshot to go on from, with the options that its guest had (docs/snapshot.md)");
  repeated("--label", flags.labels, "KEY=VALUE, which policies select by; repeatable");
  app.add_option("--log-level", flags.log_level, "debug, info (default), warning or error");
  app.add_flag("--no-reboot", flags.no_reboot, "End when the guest reboots");
  app.add_flag("--daemonize", flags.daemonize, "Go on in the background once the guest runs");
  app.add_option("--pid-file", flags.pid_file, "File that has the process's number while the guest runs");
  if (const auto stop = command_line::parse(app, argc, argv))
    line.exit_status = command_line::say(*stop, "balloon-vmm");
  return line;
}

}  // namespace balloon::vmm
