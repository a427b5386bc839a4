// SPDX-License-Identifier: Apache-2.0
#include "balloond/host/process.h"

#include <fmt/format.h>

#include <charconv>

namespace balloon::daemon {
namespace {

/// Fields of /proc/PID/stat, counted after the name, which stands in brackets and may have any character
/// (proc_pid_stat(5)): flags is the 9th of all, majflt the 12th, starttime the 22nd.
constexpr int kFlags = 7;
constexpr int kMajorFaults = 10;
constexpr int kStartTime = 20;
/// PF_KTHREAD (include/linux/sched.h).
constexpr std::uint64_t kKernelThread = 0x00200000;

/// No VMM has more of its own files in memory, libraries included (QEMU 7.2 some 35 MiB). More than that is a
/// guest's memory that is kept in a file, or comes out of a snapshot's.
constexpr Bytes kProgramFilesMax = 64 * kMiB;

std::optional<std::uint64_t> stat_field(const PseudoFile& stat, int after_name) {
  ReadBuffer buffer;
  const auto text = stat.read(buffer);
  if (!text) return std::nullopt;
  std::size_t at = text->rfind(')');
  for (int field = 0; field < after_name && at != std::string_view::npos; ++field)
    at = text->find(' ', at + 1);
  if (at == std::string_view::npos) return std::nullopt;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text->data() + at + 1, text->data() + text->size(), value);
  return error == std::errc{} ? std::optional(value) : std::nullopt;
}

}  // namespace

Process::Process(const std::string& root, pid_t pid)
    : io_(fmt::format("{}/proc/{}/io", root, pid)),
      status_(fmt::format("{}/proc/{}/status", root, pid)),
      stat_(fmt::format("{}/proc/{}/stat", root, pid)) {}

std::optional<ProcessMemory> Process::sample() const {
  ReadBuffer buffer;
  const auto status = status_.read(buffer);
  if (!status || status->empty()) return std::nullopt;
  // A zombie has no memory left, whoever has not waited for it yet (proc(5): State).
  if (status->find("State:\tZ") != std::string_view::npos ||
      status->find("State:\tX") != std::string_view::npos) {
    return std::nullopt;
  }
  const auto size = [&status](std::string_view key) { return number_after(*status, key).value_or(0) * kKiB; };
  // VmRSS has anonymous, file and shared memory, but no huge pages of hugetlbfs (proc_pid_status(5)). A
  // guest's memory is anonymous or shared. Files of the program are in MemAvailable as page cache: they would
  // count twice, and what a guest takes in their place would come as a surprise.
  const Bytes huge = size("HugetlbPages:");
  const Bytes files = size("RssFile:");
  return ProcessMemory{.mapped = size("VmSize:"),
                       .resident = above(size("VmRSS:"), files <= kProgramFilesMax ? files : Bytes{0}) + huge,
                       .swapped = size("VmSwap:"),
                       .huge = huge,
                       .locked = size("VmLck:"),
                       .pinned = size("VmPin:")};
}

std::optional<std::uint64_t> Process::major_faults() const { return stat_field(stat_, kMajorFaults); }

std::optional<policy::Bytes> Process::bytes_read() const {
  // Opened each time: few processes need it, and a descriptor for each would be kept for all.
  ReadBuffer buffer;
  const PseudoFile io(io_);
  const auto text = io.read(buffer);
  const auto count = text ? number_after(*text, "read_bytes:") : std::nullopt;
  return std::optional<policy::Bytes>(count);
}

std::optional<std::uint64_t> start_time(const std::string& root, pid_t pid) {
  return stat_field(PseudoFile(fmt::format("{}/proc/{}/stat", root, pid)), kStartTime);
}

bool is_kernel_thread(const std::string& root, pid_t pid) {
  const auto flags = stat_field(PseudoFile(fmt::format("{}/proc/{}/stat", root, pid)), kFlags);
  return flags && (*flags & kKernelThread) != 0;
}

}  // namespace balloon::daemon
