// SPDX-License-Identifier: Apache-2.0
#include "balloond/host/sampler.h"

#include <algorithm>

#include "balloond/host/pressure.h"

namespace balloon::daemon {
HostSampler::HostSampler(const std::string& root)
    : meminfo_(root + "/proc/meminfo"),
      vmstat_(root + "/proc/vmstat"),
      pressure_(root + "/proc/pressure/memory"),
      arcstats_(root + "/proc/spl/kstat/zfs/arcstats"),
      ksm_(root) {}

Result<HostSample> HostSampler::sample() {
  HostSample sample;
  const auto meminfo = meminfo_.read(buffer_);
  if (!meminfo) return fail("cannot read /proc/meminfo");
  const auto kib = [&meminfo](std::string_view key) {
    return number_after(*meminfo, key).value_or(0) * kKiB;
  };
  sample.memory.total = kib("MemTotal:");
  sample.memory.free = kib("MemFree:");
  // Of a huge page of which a part was given back (QEMU's balloon gives back 4 KiB at a time) the kernel
  // keeps all, and splits it once memory is short (mm/huge_memory.c, deferred_split_scan). Until then that
  // part is in nobody's resident memory, and MemAvailable leaves it out; only the lists of anonymous pages
  // have it.
  const policy::Bytes listed = kib("Active(anon):") + kib("Inactive(anon):");
  const policy::Bytes split_off = above(listed, kib("AnonPages:") + kib("Shmem:") + kib("SwapCached:"));
  sample.memory.available = std::min(kib("MemAvailable:") + split_off, kib("MemTotal:"));
  sample.memory.swap_total = kib("SwapTotal:");
  sample.memory.swap_free = kib("SwapFree:");
  if (sample.memory.total == Bytes{0}) return fail("/proc/meminfo has no MemTotal");

  const auto vmstat = vmstat_.read(buffer_);
  if (!vmstat) return fail("cannot read /proc/vmstat");
  sample.memory.swap_in = number_after(*vmstat, "pswpin").value_or(0) * page_size();
  sample.memory.swap_out = number_after(*vmstat, "pswpout").value_or(0) * page_size();

  // With psi=0 on the kernel's command line the file opens, and reading it fails with EOPNOTSUPP.
  if (const auto pressure = pressure_.read(buffer_)) {
    const PressureLine some = parse_pressure(*pressure, "some ");
    const PressureLine full = parse_pressure(*pressure, "full ");
    sample.memory.pressure_some = some.avg10;
    sample.memory.pressure_full = full.avg10;
    sample.pressure_some_micros = some.total_micros;
    sample.pressure_full_micros = full.total_micros;
    sample.has_pressure = true;
  }
  // MemAvailable leaves the ARC out, though it gives way as page cache does, down to c_min (OpenZFS,
  // module/zfs/arc.c).
  if (const auto arc = PseudoFile(arcstats_).read(buffer_))
    sample.memory.arc = above(Bytes{kstat_value(*arc, "size")}, Bytes{kstat_value(*arc, "c_min")});
  sample.memory.ksm = ksm_.sample(buffer_, sample.ksm);
  return sample;
}

}  // namespace balloon::daemon
