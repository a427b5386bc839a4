#include "balloond/host/process.h"

#include <fmt/format.h>

#include <charconv>

namespace balloon::daemon {

Process::Process(const std::string& root, pid_t pid)
    : status_(fmt::format("{}/proc/{}/status", root, pid)),
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
  // VmRSS has anonymous, file and shared memory, but no huge pages of hugetlbfs (proc_pid_status(5)).
  const auto huge = number_after(*status, "HugetlbPages:").value_or(0);
  return ProcessMemory{.resident = (number_after(*status, "VmRSS:").value_or(0) + huge) * 1024,
                       .swapped = number_after(*status, "VmSwap:").value_or(0) * 1024,
                       .pinned = number_after(*status, "VmPin:").value_or(0) * 1024};
}

std::optional<std::uint64_t> Process::major_faults() const {
  // majflt is the tenth field after the name, which stands in brackets and may have any character
  // (proc_pid_stat(5)).
  constexpr int kAfterName = 10;
  ReadBuffer buffer;
  const auto stat = stat_.read(buffer);
  if (!stat) return std::nullopt;
  std::size_t at = stat->rfind(')');
  for (int field = 0; field < kAfterName && at != std::string_view::npos; ++field)
    at = stat->find(' ', at + 1);
  if (at == std::string_view::npos) return std::nullopt;
  std::uint64_t faults = 0;
  const auto [end, error] = std::from_chars(stat->data() + at + 1, stat->data() + stat->size(), faults);
  return error == std::errc{} ? std::optional(faults) : std::nullopt;
}

}  // namespace balloon::daemon
