// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/figures.h"

#include <gtest/gtest.h>

#include <limits>

namespace balloon::daemon::libvirt {
namespace {

/// What libvirt 9.0 said of a guest with Linux 6.1 (virsh domstats).
Numbers recorded() {
  return {{"state.state", 1},
          {"balloon.current", 524288},
          {"balloon.maximum", 1048576},
          {"balloon.swap_in", 4},
          {"balloon.swap_out", 8},
          {"balloon.major_fault", 5},
          {"balloon.minor_fault", 1338},
          {"balloon.unused", 449836},
          {"balloon.available", 481296},
          {"balloon.usable", 449540},
          {"balloon.last-update", 1795916107},
          {"balloon.disk_caches", 4412},
          {"balloon.hugetlb_pgalloc", 1},
          {"balloon.hugetlb_pgfail", 2},
          {"balloon.rss", 209340},
          {"vcpu.current", 3},
          {"block.count", 2},
          {"block.0.rd.bytes", 8704},
          {"block.0.wr.bytes", 100},
          {"block.1.rd.bytes", 1000}};
}

TEST(Figures, SizesAreInKiBAndLibvirtsWordsAreTranslated) {
  const Figures read = read_figures("uuid", "web", recorded());
  EXPECT_EQ(read.actual, 512 * kMiB);
  EXPECT_EQ(read.maximum, kGiB);
  EXPECT_EQ(read.vcpus, 3U);
  EXPECT_TRUE(read.asked);
  EXPECT_EQ(read.updated_at, std::chrono::seconds(1795916107));
  EXPECT_EQ(read.sample.total, 481296 * kKiB) << "libvirt calls it available";
  EXPECT_EQ(read.sample.available, 449540 * kKiB) << "libvirt calls it usable";
  EXPECT_EQ(read.sample.free, 449836 * kKiB) << "libvirt calls it unused";
  EXPECT_EQ(read.sample.disk_caches, 4412 * kKiB);
  EXPECT_EQ(read.sample.swap_in, 4 * kKiB);
  EXPECT_EQ(read.sample.swap_out, 8 * kKiB);
  EXPECT_EQ(read.sample.major_faults, 5U) << "a count";
  EXPECT_EQ(read.sample.minor_faults, 1338U);
  EXPECT_EQ(read.sample.hugetlb_allocations, 1U);
  EXPECT_EQ(read.sample.hugetlb_failures, 2U);
  EXPECT_EQ(read.sample.disk_read, Bytes{9704}) << "bytes, of all disks";
}

TEST(Figures, ADomainThatAnotherCallHoldsComesWithoutWhatOnlyQemuKnows) {
  const Figures read = read_figures(
      "uuid", "web", {{"state.state", 1}, {"balloon.current", 524288}, {"balloon.maximum", 1048576}});
  EXPECT_FALSE(read.asked);
  EXPECT_EQ(read.actual, 512 * kMiB);
  EXPECT_FALSE(read.sample.available);
  EXPECT_FALSE(read.sample.disk_read);
}

TEST(Figures, BeforeTheGuestsDriverThereAreNoStatistics) {
  const Figures read = read_figures("uuid", "web", {{"balloon.last-update", 0}, {"balloon.rss", 87392}});
  EXPECT_TRUE(read.asked);
  EXPECT_FALSE(read.updated_at);
}

TEST(Figures, AbsurdNumbersDoNotWrapAround) {
  Numbers numbers = recorded();
  numbers["balloon.current"] = std::numeric_limits<std::uint64_t>::max() / 2;
  numbers["block.0.rd.bytes"] = std::numeric_limits<std::uint64_t>::max();
  numbers["block.count"] = std::numeric_limits<std::uint64_t>::max();
  numbers["balloon.last-update"] = std::numeric_limits<std::uint64_t>::max();
  const Figures read = read_figures("uuid", "web", numbers);
  EXPECT_EQ(read.actual, Bytes::max() - Bytes{1}) << "the most that does not say 'unknown'";
  EXPECT_EQ(read.sample.disk_read, Bytes::max()) << "what is too much more is left out";
  EXPECT_EQ(*read.updated_at, std::chrono::seconds(9'000'000'000))
      << "it is a time that the daemon's clock can hold";
}

TEST(Figures, DisksBeyondTheMostAreNotCounted) {
  Numbers numbers{{"block.count", 5000}};
  for (const int disk : {0, 4095, 4096}) numbers["block." + std::to_string(disk) + ".rd.bytes"] = 1;
  EXPECT_EQ(read_figures("uuid", "web", numbers).sample.disk_read, Bytes{2});
}

}  // namespace
}  // namespace balloon::daemon::libvirt
