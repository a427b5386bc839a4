#include "balloond/host/process.h"

#include <fmt/format.h>

namespace balloon::daemon {

Process::Process(const std::string& root, pid_t pid) : status_(fmt::format("{}/proc/{}/status", root, pid)) {}

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
                       .swapped = number_after(*status, "VmSwap:").value_or(0) * 1024};
}

}  // namespace balloon::daemon
