// SPDX-License-Identifier: Apache-2.0
// The CPU as a guest sees it, by the CPUID instruction and by what comes of it: guests of a few instructions
// on this host's own KVM, compared with what that KVM offers.
#include <asm/kvm_para.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/unit/vmm/machine/bare_kernel.h"
#include "vmm/machine/machine.h"

namespace balloon::vmm::test {
namespace {

constexpr std::uint32_t kKvmLeaf = KVM_CPUID_SIGNATURE, kKvmFeatures = KVM_CPUID_FEATURES;

struct Leaf {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};
bool has(std::uint32_t reg, unsigned bit) { return (reg >> bit & 1) != 0; }

class BareCpuTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(directory_);
    config_.name = "bare";
    config_.memory = 64 * kMiB;
    config_.cpus = 3;
    config_.boot.kernel = directory_ / "kernel";
    config_.serial = {SerialConfig::Kind::file, directory_ / "serial"};
    auto opened = Kvm::open();
    ASSERT_TRUE(opened) << opened.error().message;
    kvm_ = std::make_unique<Kvm>(std::move(*opened));
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  /// What a guest of `code` sends on its serial line before it powers off.
  std::string run(const Code& code) {
    write_kernel(config_.boot.kernel, code);
    const auto loop = std::move(*EventLoop::create("test-loop"));
    const auto serial = std::move(*SerialBackend::create(config_.serial, *loop));
    {
      const auto machine = Machine::create(config_, {.kvm = *kvm_, .loop = *loop, .serial = *serial});
      if (!machine) return machine.error().message;
      (*machine)->start();
      pollfd ended{.fd = (*machine)->outcome().fd(), .events = POLLIN, .revents = 0};
      if (::poll(&ended, 1, 30'000) != 1) return "it did not end within 30 s";
      EXPECT_EQ((*machine)->outcome().get()->ending, Ending::power_off) << (*machine)->outcome().get()->why;
    }
    std::ifstream file(config_.serial.path, std::ios::binary);
    std::string sent{std::istreambuf_iterator<char>(file), {}};
    std::filesystem::resize_file(config_.serial.path, 0);
    return sent;
  }
  Leaf seen(std::uint32_t function, std::uint32_t index = 0) {
    const std::string sent = run(Code().print_cpuid(function, index).power_off());
    Leaf leaf;
    EXPECT_EQ(sent.size(), sizeof leaf) << sent;
    std::memcpy(&leaf, sent.data(), std::min(sent.size(), sizeof leaf));
    return leaf;
  }
  Leaf offered(std::uint32_t function, std::uint32_t index = 0) const {
    const auto leaves = kvm_->supported_cpuid();
    for (const kvm_cpuid_entry2& each : *leaves) {
      if (each.function == function && each.index == index)
        return {.eax = each.eax, .ebx = each.ebx, .ecx = each.ecx, .edx = each.edx};
    }
    return {};
  }
  std::uint32_t word(std::uint32_t msr, std::uint32_t enable, std::uint32_t offset) {
    constexpr std::uint32_t kArea = 0x400000;
    const std::string sent = run(
        Code().write_msr(msr, kArea | enable).print("x").fetch_eax(kArea + offset).print_eax().power_off());
    std::uint32_t value = 0;
    EXPECT_EQ(sent.size(), 1 + sizeof value) << sent;
    if (sent.size() == 1 + sizeof value) std::memcpy(&value, sent.data() + 1, sizeof value);
    return value;
  }

  const std::filesystem::path directory_ =
      std::filesystem::temp_directory_path() / ("bare-cpu-" + std::to_string(::getpid()));
  VmmConfig config_;
  std::unique_ptr<Kvm> kvm_;
};

TEST_F(BareCpuTest, TheGuestSeesTheKvmFeaturesThatThisHostOffers) {
  const Leaf signature = seen(kKvmLeaf);
  EXPECT_EQ(std::memcmp(&signature.ebx, "KVMKVMKVM\0\0", 12), 0);
  EXPECT_GE(signature.eax, kKvmFeatures);
  const std::uint32_t features = seen(kKvmFeatures).eax;
  const std::uint32_t host = offered(kKvmFeatures).eax;
  for (const unsigned feature :
       {KVM_FEATURE_CLOCKSOURCE, KVM_FEATURE_CLOCKSOURCE2, KVM_FEATURE_ASYNC_PF, KVM_FEATURE_STEAL_TIME,
        KVM_FEATURE_PV_EOI, KVM_FEATURE_PV_UNHALT, KVM_FEATURE_CLOCKSOURCE_STABLE_BIT}) {
    EXPECT_EQ(has(features, feature), has(host, feature)) << "bit " << feature;
  }
  EXPECT_TRUE(has(features, KVM_FEATURE_CLOCKSOURCE2)) << "every KVM of the last ten years has it";
}

TEST_F(BareCpuTest, TheGuestSeesItsTimersAndInterruptController) {
  const Leaf leaf = seen(1);
  EXPECT_TRUE(has(leaf.ecx, 31)) << "hypervisor";
  EXPECT_TRUE(has(leaf.ecx, 21)) << "x2APIC: KVM's controllers always have it";
  EXPECT_EQ(has(leaf.ecx, 24), kvm_->has_tsc_deadline_timer()) << "TSC deadline";
  EXPECT_EQ(seen(6).eax, offered(6).eax & 4) << "ARAT, and no other power management";
  EXPECT_EQ(leaf.ebx >> 8 & 0xff, offered(1).ebx >> 8 & 0xff) << "CLFLUSH line size, as the host's";
}

TEST_F(BareCpuTest, TheGuestSeesItsOwnTopologyAndNotTheHosts) {
  const Leaf first = seen(1);
  EXPECT_EQ(first.ebx >> 24, 0U) << "APIC id of the first CPU";
  EXPECT_TRUE(has(first.edx, 28)) << "HTT";
  if (seen(0).eax < 0xb) return;  // a CPU without the leaf
  const Leaf cores = seen(0xb, 1);
  EXPECT_EQ(cores.ebx, config_.cpus);
  EXPECT_EQ(cores.ecx >> 8 & 0xff, 2U) << "the level of cores";
  EXPECT_EQ(cores.edx, 0U) << "x2APIC id";
}

TEST_F(BareCpuTest, NestedGuestsCountersAndWaitingAreNotThere) {
  const Leaf leaf = seen(1);
  EXPECT_FALSE(has(leaf.ecx, 5)) << "VMX";
  EXPECT_FALSE(has(leaf.ecx, 15)) << "PDCM";
  EXPECT_FALSE(has(leaf.ecx, 3)) << "MONITOR";
  EXPECT_FALSE(has(seen(7).ecx, 5)) << "WAITPKG";
  EXPECT_FALSE(has(seen(0x80000001).ecx, 2)) << "SVM";
  const Leaf counters = seen(0xa);
  EXPECT_EQ(counters.eax | counters.ebx | counters.ecx | counters.edx, 0U);
}

TEST_F(BareCpuTest, KvmFillsTheGuestsClock) {
  ASSERT_TRUE(has(offered(kKvmFeatures).eax, KVM_FEATURE_CLOCKSOURCE2)) << "this host's KVM has no kvm-clock";
  // pvclock_vcpu_time_info: a version that rises by two with each update, and the factor of the TSC.
  EXPECT_GT(word(MSR_KVM_SYSTEM_TIME_NEW, 1, 0), 0U);
  EXPECT_NE(word(MSR_KVM_SYSTEM_TIME_NEW, 1, 24), 0U);
}

TEST_F(BareCpuTest, KvmTellsTheGuestWhatTimeWasStolenWhereItCan) {
  const bool can = has(offered(kKvmFeatures).eax, KVM_FEATURE_STEAL_TIME);
  ASSERT_EQ(has(seen(kKvmFeatures).eax, KVM_FEATURE_STEAL_TIME), can);
  // kvm_steal_time: its version, behind the 64 bits of stolen time, rises with each update.
  if (can) {
    EXPECT_GT(word(MSR_KVM_STEAL_TIME, KVM_MSR_ENABLED, 8), 0U);
  }
}

}  // namespace
}  // namespace balloon::vmm::test
