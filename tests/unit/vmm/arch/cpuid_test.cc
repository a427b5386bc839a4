// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <optional>
#include <string_view>

#include "vmm/arch/x86_64/acpi.h"
#include "vmm/arch/x86_64/vcpu_state.h"

namespace balloon::vmm {
namespace {

using Leaves = std::vector<kvm_cpuid_entry2>;

kvm_cpuid_entry2 leaf(std::uint32_t function, std::uint32_t index, std::uint32_t eax, std::uint32_t ebx,
                      std::uint32_t ecx, std::uint32_t edx) {
  return {.function = function,
          .index = index,
          .flags = index == 0 ? 0U : KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
          .eax = eax,
          .ebx = ebx,
          .ecx = ecx,
          .edx = edx,
          .padding = {}};
}

kvm_cpuid_entry2 vendor(std::uint32_t highest, std::string_view name) {
  std::uint32_t text[3];
  std::memcpy(text, name.data(), sizeof text);
  return leaf(0, 0, highest, text[0], text[2], text[1]);
}

/// A 16-core Intel host's answer, with its topology on APIC id 0x37, as far as we look at it.
Leaves intel() {
  return {
      vendor(0x1f, "GenuineIntel"),
      leaf(1, 0, 0x606a6, 0x37200800, 1U << 5 | 1U << 15 | 1U << 21, 1U << 28),
      leaf(4, 0, 0x3c004121, 0x02c0003f, 0x3f, 0),    // L1d shared by 2, 16 cores
      leaf(4, 2, 0x3c004143, 0x04c0003f, 0x3ff, 0),   // L2
      leaf(4, 3, 0x3c07c163, 0x02c0003f, 0xffff, 4),  // L3
      leaf(4, 4, 0, 0, 0, 0),
      leaf(5, 0, 0x40, 0x40, 3, 0x2020),
      leaf(6, 0, 0x77, 2, 9, 0),
      leaf(7, 0, 2, 0xf1bf27eb, 1U << 5 | 1U << 22, 0),
      leaf(0xa, 0, 0x08300805, 0, 0xf, 0x8604),
      leaf(0xb, 0, 1, 2, 0x100, 0x37),
      leaf(0xb, 1, 6, 32, 0x201, 0x37),
      leaf(0x1f, 0, 1, 2, 0x100, 0x37),
      leaf(0x1f, 1, 6, 32, 0x201, 0x37),
      leaf(0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d),
      leaf(0x40000001, 0, 0x0100fefb, 0, 0, 0),
      leaf(0x80000000, 0, 0x80000008, 0, 0, 0),
      leaf(0x80000001, 0, 0, 0, 0x121, 0x2c100800),
      leaf(0x80000008, 0, 0x3934, 0, 0, 0),
  };
}

/// A 64-thread AMD host's answer.
Leaves amd() {
  return {
      vendor(0x10, "AuthenticAMD"),
      leaf(1, 0, 0xa00f11, 0x25400800, 1U << 21, 1U << 28),
      leaf(0xb, 0, 1, 2, 0x100, 0x25),
      leaf(0xb, 1, 7, 64, 0x201, 0x25),
      leaf(0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d),
      leaf(0x40000001, 0, 0x0100fefb, 0, 0, 0),
      leaf(0x80000000, 0, 0x80000026, 0, 0, 0),
      leaf(0x80000001, 0, 0xa00f11, 0x40000000, 0x75c237ff, 0x2fd3fbff),
      leaf(0x80000008, 0, 0x3030, 0x111ef657, 0x703f, 0x10007),
      leaf(0x8000000a, 0, 1, 0x8000, 0, 0x119b9cff),
      leaf(0x8000001d, 0, 0x4121, 0x01c0003f, 0x3f, 0),     // L1d, 2 threads
      leaf(0x8000001d, 3, 0x3c163, 0x03c0003f, 0x7fff, 1),  // L3, 16 threads
      leaf(0x8000001e, 0, 0x25, 0x112, 0x100, 0),
      leaf(0x80000022, 0, 3, 0x106, 0, 0),
      leaf(0x80000026, 0, 1, 2, 0x100, 0x25),
  };
}

std::optional<kvm_cpuid_entry2> find(const Leaves& leaves, std::uint32_t function, std::uint32_t index = 0) {
  std::optional<kvm_cpuid_entry2> found;
  for (const kvm_cpuid_entry2& each : leaves) {
    if (each.function != function || each.index != index) continue;
    EXPECT_FALSE(found) << "twice: leaf " << function << " " << index;
    found = each;
  }
  return found;
}

kvm_cpuid_entry2 get(const Leaves& leaves, std::uint32_t function, std::uint32_t index = 0) {
  auto found = find(leaves, function, index);
  EXPECT_TRUE(found) << "missing: leaf " << std::hex << function << " " << index;
  return found.value_or(kvm_cpuid_entry2{});
}

bool has(std::uint32_t reg, unsigned bit) { return (reg >> bit & 1) != 0; }

/// Local APIC ids in the MADT of a machine of that size, in order.
std::vector<std::uint32_t> madt_apic_ids(std::uint32_t vcpus) {
  auto image = build_acpi_tables({.vcpus = vcpus});
  std::string_view text(reinterpret_cast<const char*>(image.data()), image.size());
  const std::size_t madt = text.find("APIC");
  std::vector<std::uint32_t> ids;
  for (std::size_t entry = madt + 44; image[entry] == std::byte{0}; entry += 8) {
    ids.push_back(static_cast<std::uint32_t>(image[entry + 3]));
  }
  return ids;
}

TEST(CpuidTest, ApicIdsAgreeBetweenAllLeavesAndTheMadtForEverySize) {
  for (const Leaves& host : {intel(), amd()}) {
    for (std::uint32_t vcpus = 1; vcpus <= 64; ++vcpus) {
      auto ids = madt_apic_ids(vcpus);
      ASSERT_EQ(ids.size(), vcpus);
      for (std::uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) {
        Leaves guest = guest_cpuid(host, {.vcpu = vcpu, .vcpus = vcpus});
        ASSERT_EQ(get(guest, 1).ebx >> 24, ids[vcpu]);
        for (std::uint32_t index : {0U, 1U, 2U}) ASSERT_EQ(get(guest, 0xb, index).edx, ids[vcpu]);
        if (auto v2 = find(guest, 0x1f, 1)) {
          ASSERT_EQ(v2->edx, ids[vcpu]);
        }
        if (auto extended = find(guest, 0x8000001e)) {
          ASSERT_EQ(extended->eax, ids[vcpu]);
        }
      }
    }
  }
}

TEST(CpuidTest, TopologyIsOnePackageOfSingleThreadedCoresForEverySize) {
  for (const Leaves& host : {intel(), amd()}) {
    for (std::uint32_t vcpus = 1; vcpus <= 64; ++vcpus) {
      Leaves guest = guest_cpuid(host, {.vcpu = vcpus - 1, .vcpus = vcpus});
      auto threads = get(guest, 0xb, 0);
      EXPECT_EQ(threads.eax, 0u) << "no id bits for threads";
      EXPECT_EQ(threads.ebx, 1u);
      EXPECT_EQ(threads.ecx, 0x100u);
      auto cores = get(guest, 0xb, 1);
      EXPECT_EQ(cores.ebx, vcpus);
      EXPECT_EQ(cores.ecx, 0x201u);
      EXPECT_EQ((vcpus - 1) >> cores.eax, 0u) << "all ids in one package";
      EXPECT_LE(1U << cores.eax, std::bit_ceil(vcpus));
      EXPECT_EQ(get(guest, 0xb, 2).ebx, 0u) << "end";
      EXPECT_EQ(get(guest, 1).ebx >> 16 & 0xff, std::bit_ceil(vcpus));
      EXPECT_EQ(has(get(guest, 1).edx, 28), vcpus > 1) << "HTT";
    }
  }
}

TEST(CpuidTest, IntelCachesAreOwnUpToLevel2AndSharedAtLevel3) {
  Leaves guest = guest_cpuid(intel(), {.vcpu = 1, .vcpus = 6});
  for (std::uint32_t index : {0U, 2U, 3U}) {
    auto cache = get(guest, 4, index);
    EXPECT_EQ((cache.eax >> 14 & 0xfff), index == 3 ? 7u : 0u) << "cache " << index;
    EXPECT_EQ(cache.eax >> 26, 7u) << "core ids";
    EXPECT_EQ(cache.ebx, get(intel(), 4, index).ebx) << "geometry kept";
  }
  EXPECT_EQ(get(guest, 4, 4).eax, 0u) << "the end marker stays";
}

TEST(CpuidTest, CoreIdsOfLeaf4AreCappedAtTheirField) {
  Leaves guest = guest_cpuid(intel(), {.vcpu = 0, .vcpus = 200});
  EXPECT_EQ(get(guest, 4, 0).eax >> 26, 63u);
  EXPECT_EQ(get(guest, 1).ebx >> 16 & 0xff, 255u);
}

TEST(CpuidTest, AmdCoreCountsAreTheGuests) {
  Leaves guest = guest_cpuid(amd(), {.vcpu = 5, .vcpus = 6});
  auto sizes = get(guest, 0x80000008);
  EXPECT_EQ(sizes.ecx & 0xff, 5u) << "cores less one";
  EXPECT_EQ(sizes.ecx >> 12 & 0xf, 3u) << "id bits";
  EXPECT_EQ(sizes.eax, 0x3030u) << "address widths kept";
  auto topology = get(guest, 0x8000001e);
  EXPECT_EQ(topology.ebx & 0xff, 5u) << "core";
  EXPECT_EQ(topology.ebx >> 8 & 0xff, 0u) << "one thread a core";
  EXPECT_EQ(topology.ecx, 0u) << "one node";
  EXPECT_TRUE(has(get(guest, 0x80000001).ecx, 1)) << "CmpLegacy";
  EXPECT_EQ(get(guest, 0x8000001d, 0).eax >> 14 & 0xfff, 0u);
  EXPECT_EQ(get(guest, 0x8000001d, 3).eax >> 14 & 0xfff, 7u);
  EXPECT_FALSE(find(guest, 0x80000026)) << "the host's topology";
}

TEST(CpuidTest, IntelsReservedAmdFieldsStayZero) {
  Leaves guest = guest_cpuid(intel(), {.vcpu = 1, .vcpus = 4});
  EXPECT_EQ(get(guest, 0x80000008).ecx, 0u);
  EXPECT_EQ(get(guest, 0x80000001).ecx, 0x121u);
}

TEST(CpuidTest, GuestsKnowThatTheyAreGuestsAndKeepKvmsLeaves) {
  for (const Leaves& host : {intel(), amd()}) {
    Leaves guest = guest_cpuid(host, {.vcpu = 0, .vcpus = 2});
    EXPECT_TRUE(has(get(guest, 1).ecx, 31)) << "hypervisor";
    EXPECT_EQ(get(guest, 0x40000000).ebx, 0x4b4d564bu);
    EXPECT_EQ(get(guest, 0x40000001).eax, 0x0100fefbu);
    EXPECT_TRUE(has(get(guest, 1).ecx, 21)) << "x2APIC kept";
  }
}

TEST(CpuidTest, NothingForNestedGuestsPmuOrWaiting) {
  Leaves guest = guest_cpuid(intel(), {.vcpu = 0, .vcpus = 2});
  EXPECT_FALSE(has(get(guest, 1).ecx, 5)) << "VMX";
  EXPECT_FALSE(has(get(guest, 1).ecx, 15)) << "PDCM";
  EXPECT_FALSE(has(get(guest, 7).ecx, 5)) << "WAITPKG";
  EXPECT_TRUE(has(get(guest, 7).ecx, 22)) << "the rest of leaf 7 stays";
  EXPECT_EQ(get(guest, 7).ebx, 0xf1bf27ebu);
  auto pmu = get(guest, 0xa);
  EXPECT_EQ(pmu.eax | pmu.ebx | pmu.ecx | pmu.edx, 0u);
  auto power = get(guest, 6);
  EXPECT_EQ(power.eax, 4u) << "ARAT only";
  EXPECT_EQ(power.ecx, 0u) << "no energy bias";

  guest = guest_cpuid(amd(), {.vcpu = 0, .vcpus = 2});
  EXPECT_FALSE(has(get(guest, 0x80000001).ecx, 2)) << "SVM";
  auto svm = get(guest, 0x8000000a);
  EXPECT_EQ(svm.eax | svm.ebx | svm.ecx | svm.edx, 0u);
  EXPECT_FALSE(has(get(guest, 0x80000001).ecx, 23)) << "performance counters";
  EXPECT_EQ(get(guest, 0x80000022).eax, 0u);
}

TEST(CpuidTest, WhatDescribesTheCpuItselfIsTheHosts) {
  constexpr std::uint32_t kFdpExceptionsOnly = 1U << 6, kZeroFcsFds = 1U << 13;
  Leaves host = intel();
  for (const std::uint32_t part : {0x80000002U, 0x80000003U, 0x80000004U})
    host.push_back(leaf(part, 0, 0x20554350, part, 1, 2));  // the name
  for (const std::uint32_t cache : {0x80000005U, 0x80000006U})
    host.push_back(leaf(cache, 0, 1, 2, 0x01006040, cache));
  const Leaves guest = guest_cpuid(host, {.vcpu = 1, .vcpus = 4});
  for (const std::uint32_t kept : {0x80000002U, 0x80000003U, 0x80000004U, 0x80000005U, 0x80000006U}) {
    const auto is = get(guest, kept), was = get(host, kept);
    EXPECT_EQ(std::memcmp(&is, &was, sizeof is), 0) << std::hex << kept;
  }
  EXPECT_EQ(get(guest, 0x80000008).eax, 0x3934U) << "address widths";
  EXPECT_EQ(get(guest, 1).ebx >> 8 & 0xff, get(host, 1).ebx >> 8 & 0xff) << "CLFLUSH line";
  EXPECT_EQ(get(guest, 7).ebx & (kFdpExceptionsOnly | kZeroFcsFds), kFdpExceptionsOnly | kZeroFcsFds)
      << "how its FPU keeps pointers: as this CPU does";
}

TEST(CpuidTest, NoInvariantTscIsOfferedSoThatLinuxKeepsToKvmClock) {
  constexpr unsigned kInvariantTsc = 8, kOther = 1;
  for (Leaves host : {intel(), amd()}) {
    host.push_back(leaf(0x80000007, 0, 0, 0, 0, 1U << kInvariantTsc | 1U << kOther));
    EXPECT_EQ(get(guest_cpuid(host, {.vcpus = 2}), 0x80000007).edx, 1U << kOther);
  }
}

TEST(CpuidTest, TscDeadlineTimerFollowsTheCapability) {
  EXPECT_TRUE(has(get(guest_cpuid(intel(), {.vcpus = 1, .tsc_deadline_timer = true}), 1).ecx, 24));
  EXPECT_FALSE(has(get(guest_cpuid(intel(), {.vcpus = 1, .tsc_deadline_timer = false}), 1).ecx, 24));
}

TEST(CpuidTest, ParavirtualFeaturesAreThoseThatKvmHas) {
  // linux/kvm_para.h
  constexpr unsigned kClockSource = 0, kClockSource2 = 3, kStealTime = 5, kClockStable = 24;
  for (const Leaves& host : {intel(), amd()}) {
    for (const unsigned feature : {kClockSource, kClockSource2, kStealTime, kClockStable}) {
      for (const bool offered : {true, false}) {
        Leaves leaves = host;
        for (kvm_cpuid_entry2& each : leaves) {
          if (each.function == 0x40000001) each.eax = offered ? 1U << feature : 0U;
        }
        const Leaves guest = guest_cpuid(leaves, {.vcpu = 0, .vcpus = 2});
        EXPECT_EQ(has(get(guest, 0x40000001).eax, feature), offered) << "bit " << feature;
      }
    }
  }
}

TEST(CpuidTest, TheTscDeadlineTimerIsThereOnBothMakersCpusAndNothingElseChangesWithIt) {
  for (const Leaves& host : {intel(), amd()}) {
    const Leaves with = guest_cpuid(host, {.vcpus = 4, .tsc_deadline_timer = true});
    const Leaves without = guest_cpuid(host, {.vcpus = 4, .tsc_deadline_timer = false});
    EXPECT_EQ(get(with, 1).ecx, get(without, 1).ecx | 1U << 24);
    EXPECT_EQ(with.size(), without.size());
  }
}

TEST(CpuidTest, LeavesBeyondTheHighestAreNotMadeUp) {
  Leaves old = {vendor(0xa, "GenuineIntel"), leaf(1, 0, 0, 0x37200800, 0, 0)};
  EXPECT_FALSE(find(guest_cpuid(old, {.vcpus = 2}), 0xb));
  Leaves small = {vendor(0xd, "AuthenticAMD"), leaf(1, 0, 0, 0x37200800, 0, 0)};
  Leaves guest = guest_cpuid(small, {.vcpu = 1, .vcpus = 2});
  EXPECT_EQ(get(guest, 0xb, 1).ebx, 2u) << "KVM leaves it out where the host has none, but it is in range";
  EXPECT_FALSE(find(guest, 0x1f));
  EXPECT_TRUE(guest_cpuid({}, {.vcpus = 2}).empty());
}

}  // namespace
}  // namespace balloon::vmm
