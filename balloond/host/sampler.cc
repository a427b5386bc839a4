#include "balloond/host/sampler.h"

#include <charconv>

namespace balloon::daemon {
namespace {

using policy::Bytes;

/// The kernel counts swap and KSM in pages of this host.
Bytes page_size() {
  static const auto size = static_cast<Bytes>(::sysconf(_SC_PAGESIZE));
  return size;
}

struct Pressure {
  double avg10 = 0;
  std::uint64_t total_micros = 0;
};

/// One line, "some avg10=0.12 avg60=0.05 avg300=0.01 total=12345" (Documentation/accounting/psi.rst).
Pressure parse_pressure(std::string_view text, std::string_view kind) {
  Pressure pressure;
  const std::size_t start = text.find(kind);
  if (start == std::string_view::npos) return pressure;
  const std::string_view line = text.substr(start, text.find('\n', start) - start);
  const auto read = [line](std::string_view key, auto& out) {
    const std::size_t at = line.find(key);
    if (at != std::string_view::npos)
      std::from_chars(line.data() + at + key.size(), line.data() + line.size(), out);
  };
  read("avg10=", pressure.avg10);
  read("total=", pressure.total_micros);
  pressure.avg10 /= 100;
  return pressure;
}

}  // namespace

HostSampler::HostSampler(const std::string& root)
    : meminfo_(root + "/proc/meminfo"),
      vmstat_(root + "/proc/vmstat"),
      pressure_(root + "/proc/pressure/memory"),
      ksm_(root + "/sys/kernel/mm/ksm/pages_sharing") {}

Result<HostSample> HostSampler::sample() {
  HostSample sample;
  const auto meminfo = meminfo_.read(buffer_);
  if (!meminfo) return fail("cannot read /proc/meminfo");
  const auto kib = [&meminfo](std::string_view key) {
    return number_after(*meminfo, key).value_or(0) * 1024;
  };
  sample.memory.total = kib("MemTotal:");
  sample.memory.free = kib("MemFree:");
  sample.memory.available = kib("MemAvailable:");
  sample.memory.swap_total = kib("SwapTotal:");
  sample.memory.swap_free = kib("SwapFree:");
  if (sample.memory.total == 0) return fail("/proc/meminfo has no MemTotal");

  const auto vmstat = vmstat_.read(buffer_);
  if (!vmstat) return fail("cannot read /proc/vmstat");
  sample.memory.swap_in = number_after(*vmstat, "pswpin").value_or(0) * page_size();
  sample.memory.swap_out = number_after(*vmstat, "pswpout").value_or(0) * page_size();

  // With psi=0 on the kernel's command line the file opens, and reading it fails with EOPNOTSUPP.
  if (const auto pressure = pressure_.read(buffer_)) {
    const Pressure some = parse_pressure(*pressure, "some ");
    const Pressure full = parse_pressure(*pressure, "full ");
    sample.memory.pressure_some = some.avg10;
    sample.memory.pressure_full = full.avg10;
    sample.pressure_some_micros = some.total_micros;
    sample.pressure_full_micros = full.total_micros;
    sample.has_pressure = true;
  }
  if (const auto sharing = ksm_.read(buffer_)) {
    std::uint64_t pages = 0;
    std::from_chars(sharing->data(), sharing->data() + sharing->size(), pages);
    sample.ksm_saved = pages * page_size();
  }
  return sample;
}

}  // namespace balloon::daemon
