// SPDX-License-Identifier: Apache-2.0
// What a VMM costs before its guest does anything: CPU from exec to the guest's first instructions, which say
// so over the serial port, on this machine's own KVM. balloon-vmm and QEMU's microvm in turn.
//   start_bench PROGRAMS [ROUNDS]
//     PROGRAMS   directory of balloon-vmm
// Prints one line of JSON: milliseconds of CPU of all threads, of each VMM in the median, least and most.
// Exit status 1 when balloon-vmm's median is above 8 ms.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>

#include "tests/integration/process.h"
#include "tests/unit/vmm/machine/bare_kernel.h"

namespace balloon::test {
namespace {
namespace fs = std::filesystem;

constexpr double kMost = 8;  // ms of CPU
constexpr std::string_view kSaid = "first";

/// CPU of all threads of the process, in ms; the first number is ns on the CPU
/// (Documentation/scheduler/sched-stats.rst).
double cpu_of(pid_t pid) {
  double nanoseconds = 0;
  for (const auto& task : fs::directory_iterator(fmt::format("/proc/{}/task", pid)))
    nanoseconds += std::stod(read_text(task.path() / "schedstat"));
  return nanoseconds / 1e6;
}

double start(const std::vector<std::string>& command) {
  const TemporaryDirectory directory;
  Background vmm(command, directory.file("log"));
  if (!eventually([&] { return vmm.log().contains(kSaid) || !vmm.running(); }) || !vmm.running())
    throw std::runtime_error(fmt::format("{} did not start its guest: {}", command[0], vmm.log()));
  return cpu_of(vmm.pid());
}

std::string figures(std::vector<double> of) {
  std::ranges::sort(of);
  return fmt::format(R"({{"median":{:.2f},"least":{:.2f},"most":{:.2f}}})", of[of.size() / 2], of.front(),
                     of.back());
}

int measure(const std::string& programs, int rounds) {
  const TemporaryDirectory directory;
  vmm::test::write_kernel(directory.file("kernel"), vmm::test::Code().print(kSaid).halt());
  const std::vector<std::string> ours{programs + "/balloon-vmm", "--name=start", "--memory=512MiB",
                                      "--serial=stdio", "--kernel=" + directory.file("kernel")};
  // In a virtual machine KVM may refuse to set IA32_ARCH_CAPABILITIES, at which QEMU 7.2 ends.
  const std::vector<std::string> microvm{"/usr/bin/qemu-system-x86_64",
                                         "-M",
                                         "microvm",
                                         "-accel",
                                         "kvm",
                                         "-cpu",
                                         "host,-arch-capabilities",
                                         "-m",
                                         "512",
                                         "-nodefaults",
                                         "-no-user-config",
                                         "-display",
                                         "none",
                                         "-serial",
                                         "stdio",
                                         "-kernel",
                                         directory.file("kernel")};
  std::vector<double> our_cpu, their_cpu;
  for (int i = 0; i < rounds; ++i) {
    our_cpu.push_back(start(ours));
    their_cpu.push_back(start(microvm));
  }
  fmt::print(R"({{"cpu_ms":{{"balloon-vmm":{},"qemu-microvm":{}}},"rounds":{}}})"
             "\n",
             figures(our_cpu), figures(their_cpu), rounds);
  std::ranges::nth_element(our_cpu, our_cpu.begin() + rounds / 2);
  return our_cpu[static_cast<std::size_t>(rounds) / 2] <= kMost ? 0 : 1;
}

}  // namespace
}  // namespace balloon::test

int main(int argc, char** argv) {
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 21;
  if (argc < 2 || rounds < 1) {
    fmt::print(stderr, "start_bench PROGRAMS [ROUNDS]\n");
    return 2;
  }
  try {
    return balloon::test::measure(argv[1], rounds);
  } catch (const std::exception& error) {
    fmt::print(stderr, "start_bench: {}\n", error.what());
    return 1;
  }
}
